"""The cost of an event, with the receipt to recompute it from. Pure: no clock, no file, no network.

Costs are in USD with 12 decimal places, rounded half to even, once, at the end. Token counts and rates are multiplied
as integers, and everything else is exact, too.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from operator import mul
from typing import Final

import orjson
from birdfeed_schemas.enrichment import NOTHING, CostStatus, Price, PriceSource, Usage
from birdfeed_schemas.events import Event

from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.choose import Choice, Chosen, choice_for, find, find_media
from birdfeed_worker.pricing.book.entry import REPORTED, Entry, as_json, worst
from birdfeed_worker.pricing.price.money import MOST, PLACES, half_even, plain, to_cost, to_units
from birdfeed_worker.pricing.price.units import by_units
from birdfeed_worker.pricing.usage.modifiers import modifiers_of

_NO_RATES: Final = ""
#: The most that one event may cost, in units of a cost's last decimal place.
MOST_UNITS: Final = int(MOST) * 10**PLACES
#: Statuses of a usage that was not sent.
_ABSENT: Final = frozenset(("missing", "stream_without_usage"))


def price_event(event_type: str, event: Event, usage: Usage, at: datetime, book: Books) -> Price:
    """The cost of one event.

    Args:
        usage: Its usage, normalised.
        at: The date of the price (aware): the event's start_time, or when it was tracked if it has none.

    Returns:
        The price. If nothing could be priced, its cost is 0 and cost_status says why. Never raises for a valid event.
    """
    choice = choice_for(book, event)
    if is_ordinary(event, usage):
        # A fast path for nearly all events: the same as below, without checks that can't apply.
        chosen = choice.fixed or find(book, choice, event, at, NOTHING, usage.tokens.prompt)
        if chosen is not None and is_plain(chosen):
            tokens = usage.tokens
            present = tuple(map(bool, tokens))
            if True in present:
                entry, match, _ = chosen
                plan = entry.plan(present, NOTHING)
                units = sum(map(mul, tokens, plan.scaled))
                if plan.divisor != 1:
                    units = half_even(units, plan.divisor)
                if units <= MOST_UNITS:
                    provider = event.provider or choice.provider or entry.provider
                    return Price(
                        units, plan.status, match, entry.name, entry.book, entry.source, provider,
                        plan.rates_json, usage,
                    )  # fmt: skip
    modifiers = modifiers_of(event.service_tier, usage)
    chosen = find(book, choice, event, at, modifiers, usage.tokens.prompt if choice.steps else 0)
    is_text = event.is_text
    if not is_text:
        chosen = _or_media(book, choice, chosen, event, usage, at)
        if chosen is not None:
            usage = _as_images(chosen.entry, usage)
    elif chosen is None and usage.counters:
        chosen = find_media(book, choice, at)
    units, status, rates, source = _priced(chosen, event, usage, modifiers, is_text)
    if units > MOST_UNITS:
        units, status, rates = 0, "unpriced", _NO_RATES
    provider = event.provider or choice.provider
    price = Price(units, status, "none", None, "", source or "none", provider, rates, usage)
    if chosen is not None:
        entry = chosen.entry
        price.price_match, price.price_model, price.price_book = chosen.match, entry.name, entry.book
        price.price_source = source or entry.source
        price.provider = provider or entry.provider
    return price


def is_ordinary(event: Event, usage: Usage) -> bool:
    """Whether the event's cost depends only on its tokens and their rates, as far as the event shows."""
    return (
        usage.status == "ok"
        and event.cost is None
        and not (event.cache_hit or event.service_tier or usage.modifiers or usage.counters)
        and usage.reported is None
        and event.is_text
    )


def is_plain(chosen: Chosen) -> bool:
    """Whether it depends only on them as far as the price shows."""
    return chosen.entry.is_plain and not chosen.free_unproven


def _priced(
    chosen: Chosen | None, event: Event, usage: Usage, modifiers: Mapping[str, str], is_text: bool
) -> tuple[int, CostStatus, str, PriceSource | None]:
    """Cost in units, status, receipt, and the source if it isn't the entry's; by the rules, in their order."""
    if event.cache_hit:
        return 0, "cache_hit", _NO_RATES, None
    if event.cost is not None:
        return *_reported(event.cost), "event"
    if usage.reported is not None:
        return *_reported(usage.reported), "provider"
    nothing = usage.status in _ABSENT or (
        usage.status in ("ok", "inconsistent") and not usage.counters and not any(usage.tokens)
    )
    if is_text and nothing:
        return 0, "no_usage", _NO_RATES, None
    if chosen is None:
        return 0, "unpriced", _NO_RATES, None
    entry = chosen.entry
    if chosen.free_unproven or (usage.status == "invalid" and (entry.unit == "token" or is_text)):
        return 0, "unpriced", _NO_RATES, None
    entry = entry.for_event(event)
    if entry.unit == "token":
        units, status, rates = by_tokens(entry, usage, modifiers, nothing)
    else:
        units, status, rates = by_units(entry, event, usage, modifiers)
    if status in ("priced", "estimated"):
        if usage.status == "incomplete":
            status = "partial"
        elif usage.status == "inconsistent":
            status = "estimated"
    return units, status, rates, None


def _reported(amount: Decimal) -> tuple[int, CostStatus, str]:
    cost = to_cost(amount)
    return to_units(cost), "reported", as_json({REPORTED: plain(cost)})


def by_tokens(entry: Entry, usage: Usage, modifiers: Mapping[str, str], nothing: bool) -> tuple[int, CostStatus, str]:
    """Price the token classes and the counters. The cost is in units of its last decimal place."""
    if nothing:
        return 0, "no_usage", _NO_RATES
    tokens = usage.tokens
    plan = entry.plan(tuple(map(bool, tokens)), modifiers)
    counters = usage.counters
    if not counters and "requests" not in entry.rates:
        units = sum(map(mul, tokens, plan.scaled))
        if plan.divisor != 1:
            units = half_even(units, plan.divisor)
        status = plan.status
        if usage.status == "incomplete" and status != "partial" and not units:
            status = "partial"
        return units, status, plan.rates_json
    if "requests" in entry.rates and "requests" not in counters:
        counters = {**counters, "requests": 1}
    amount, rates, status = entry.counted(counters, modifiers)
    in_tokens = Fraction(sum(map(mul, tokens, plan.scaled)), plan.divisor)
    units = round(in_tokens + amount * 10**12)
    merged = {**(orjson.loads(plan.rates_json) if plan.rates_json else {}), **rates}
    return units, worst(plan.status, status), as_json(merged)


def _or_media(
    books: Books, choice: Choice, chosen: Chosen | None, event: Event, usage: Usage, at: datetime
) -> Chosen | None:
    """The media book's price of an image, video or speech model that no other layer has, or (estimated) of a model that
    is priced by tokens but reported none."""
    if chosen is None:
        return find_media(books, choice, at)
    if chosen.entry.source == "genai-prices" and not any(usage.tokens) and not usage.counters:
        media = find_media(books, choice, at)
        if media is not None:
            by_tokens_too = "prompt_text" in chosen.entry.rates
            return media._replace(entry=media.entry.worse(estimated=True)) if by_tokens_too else media
    return chosen


def _as_images(entry: Entry, usage: Usage) -> Usage:
    """In an image event whose price has an image output rate, count completion tokens without a detail as images."""
    if not usage.unaccounted or "completion_image" not in entry.rates:
        return usage
    tokens = usage.tokens
    moved = tokens._replace(
        completion_text=tokens.completion_text - usage.unaccounted,
        completion_image=tokens.completion_image + usage.unaccounted,
    )
    return usage._replace(tokens=moved, unaccounted=0)
