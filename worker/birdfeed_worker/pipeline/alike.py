"""A fast path for rows of events that are like earlier ones, as nearly all text generations of an app are.

Two events are alike if everything except their own part (row_models.py) is the same: model, provider, tier, the price
that is found, and which kinds of tokens they used. The first gets its row from the type's row builder, and the JSON of
the shared fields is kept. The others need only their times, their cost, and the JSON of their own part: a quarter of
the work.

What is unusual in any way is like nothing: other usages, reported costs, errors, moderation results with numbers,
fields that an operator allows, plug-in types. Tests hold both ways together, row for row.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from birdfeed_schemas.enrichment import NOTHING, CostStatus, Tokens, cost_number, cost_text
from birdfeed_schemas.events import Event
from birdfeed_schemas.registry import EventType
from birdfeed_schemas.row_models import (
    NOBODY,
    OWN_FIELDS,
    LlmEventRow,
    OwnPart,
    ProxyMetadata,
    Response,
    ResponseUsage,
    TokenCounts,
    shared_json,
)
from birdfeed_schemas.rows import Enriched, llm_event_row
from birdfeed_schemas.times import times
from birdfeed_schemas.typed.lines import KnownVerdicts
from msgspec import Struct

from birdfeed_worker.model import Item
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.choose import Choice, choice_for, find
from birdfeed_worker.pricing.names import provider_of
from birdfeed_worker.pricing.price.money import half_even
from birdfeed_worker.pricing.price.price import MOST_UNITS, is_ordinary, is_plain
from birdfeed_worker.pricing.usage.known import KnownUsage
from birdfeed_worker.pricing.usage.normalise import BESIDE_COMPLETION

#: Kinds of events remembered, and prices of each; names come from handlers, so there must be a bound.
MAX_KINDS: Final = 1_024
MAX_PRICES: Final = 64
_encode: Final = msgspec.json.Encoder().encode


class _Priced(NamedTuple):
    """What events of one kind that have the same classes of tokens, and the same price, share.

    Attributes:
        rates: The rates of uncached prompt, cached prompt, text and reasoning.
        divisor: The sum of tokens times rates, divided by this, is the cost in units of its last decimal place.
    """

    rates: tuple[int, int, int, int]
    divisor: int
    status: CostStatus
    shared: bytes


class _Kind(Struct):
    """A kind of alike events: where their prices are looked up, whose events they are, and their prices."""

    choice: Choice
    caller: ProxyMetadata
    prices: dict[tuple[Any, ...], _Priced]


#: Makes an item's row if its event is like an earlier one; returns whether it is.
MakeRow: TypeAlias = Callable[[Item, Event], bool]


class Alike:
    """Remembers the shared fields of alike events."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        #: Struct of events → the function that reads the fields that may be shared.
        self._readers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}
        self._made_for: tuple[Books, bool] | None = None

    def maker(
        self, event_type: EventType, books: Books, tiers: Mapping[str, str], now: datetime, *, short: bool
    ) -> MakeRow:
        """A function that makes rows of version `now`, with these prices and users' tiers; `short`: short rows.

        It is a closure over all it needs, because it runs for every event.
        """
        if self._made_for is None or self._made_for[0] is not books or self._made_for[1] is not short:
            self._kinds.clear()
            self._made_for = books, short
        if event_type.build_row is not llm_event_row:
            return lambda item, event: False
        kinds, reader_of, tier_of = self._kinds, self._readers.get, tiers.get

        def make_row(item: Item, event: Any) -> bool:
            reader = reader_of(event.__class__)
            usage = event.usage
            if reader is None or usage.__class__ is not KnownUsage:
                return False
            parts = usage.parts
            user = event.user
            try:
                kind = kinds[reader(event), tier_of(user), not user]
            except (KeyError, TypeError):  # TypeError: an unhashable field, such as an error
                return False
            if parts is None or usage.shape.modifiers:
                return False
            line: Any = item.envelope
            occurred_at, event_id = line.occurred_at, line.event_id
            start, end, duration, clamped = times(occurred_at, event.start_time, event.end_time, event.duration)
            prompt, cached, text, reasoning = parts
            chosen = kind.choice.fixed or find(
                books, kind.choice, event, occurred_at if event.start_time is None else start, NOTHING, prompt + cached
            )
            priced = kind.prices.get((chosen, _classes(prompt, cached, text, reasoning)))
            if priced is None:
                return False
            of_prompt, of_cached, of_text, of_reasoning = priced.rates
            units = prompt * of_prompt + cached * of_cached + text * of_text + reasoning * of_reasoning
            if priced.divisor != 1:
                units = half_even(units, priced.divisor)
            if units > MOST_UNITS:
                return False
            caller = kind.caller
            if event.organization or event.project or event.chat_id:
                caller = ProxyMetadata(
                    event.organization or "", event.project or "", caller.environment, event.chat_id or ""
                )
            request_id, response_id = event.request_id or "", event.response_id or ""
            own = OwnPart(
                event_id, occurred_at, start, end, duration, cost_text(units), now, clamped, user or "unknown",
                event.username or "", request_id, event.referrer or "", event.cache_key or "", event.trace_id or "",
                event.span_id or "", line.truncated > 0, line.dropped_fields, item.header.replay_id,
                TokenCounts(prompt, cached, 0, 0, 0, 0, 0, 0, text, 0, 0, reasoning), usage.text, caller,
            )  # fmt: skip
            if not short:
                used, made = prompt + cached, text + reasoning
                own.response = Response(response_id, ResponseUsage(used, made, used + made), "chat.completion")
                own.id = event_id
                own.message_id = request_id or event_id
                own.standard_logging_object_response_time = own.llm_api_duration_ms = duration
                own.cost = cost_number(units)
            elif response_id:
                own.response = Response(response_id)
            item.row = _encode(own)[:-1] + priced.shared
            item.cost_status = priced.status
            return True

        return make_row

    def learn(self, event_type: EventType, books: Books, tiers: Mapping[str, str], made: Enriched, row: object) -> bool:
        """Remember what an event's row shares with those of alike events; returns False if none can be like it.

        Args:
            event_type, books, tiers: The maker's.
            made, row: The enriched event, and its row from the type's row builder.
        """
        event: Any = made.event
        usage = event.usage
        if not (
            event_type.build_row is llm_event_row
            and isinstance(row, LlmEventRow)
            and isinstance(usage, KnownUsage)  # only typed events have one
            and usage.parts is not None
            and is_ordinary(event, made.usage)
            and event.error is None
            and (event.moderation is None or isinstance(event.moderation, KnownVerdicts))
            and not made.extra
        ):
            return False
        prompt, cached, _, reasoning = usage.parts
        if reasoning and provider_of(event.provider, event.model_used or event.model) == BESIDE_COMPLETION:
            return False
        choice = choice_for(books, event)
        at = made.times.start if event.start_time and made.times else made.envelope.occurred_at
        chosen = choice.fixed or find(books, choice, event, at, NOTHING, prompt + cached)
        if chosen is None or not is_plain(chosen) or not any(usage.parts):
            return False
        plan = chosen.entry.plan(tuple(map(bool, made.usage.tokens)), NOTHING)
        if (made.price.rates_json, made.price.cost_status) != (plan.rates_json, plan.status):
            return False  # the cost would exceed MOST_UNITS
        reader = self._readers.get(type(event))
        if reader is None:
            reader = attrgetter(*(name for name in event.__struct_fields__ if name not in OWN_FIELDS))
            self._readers[type(event)] = reader
        key = reader(event), tiers.get(event.user), not event.user
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            caller = ProxyMetadata(environment=event.environment) if event.environment else NOBODY
            kind = self._kinds[key] = _Kind(choice, caller, {})
        if len(kind.prices) >= MAX_PRICES:
            return False
        rates = Tokens(*plan.scaled)
        kind.prices[chosen, _classes(*usage.parts)] = _Priced(
            (rates.prompt_text, rates.prompt_cached, rates.completion_text, rates.completion_reasoning),
            plan.divisor,
            plan.status,
            shared_json(row),
        )
        return True


def _classes(prompt: int, cached: int, text: int, reasoning: int) -> int:
    """Which of the parts are not 0, as bits."""
    return (prompt and 1) + (cached and 2) + (text and 4) + (reasoning and 8)
