"""Enrich: add usage, price and tier to each event, and make its row."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
from birdfeed_schemas.events import Event
from birdfeed_schemas.registry import EventType
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.times import times_of
from birdfeed_schemas.wire.compact_bytes import compact_bytes

from birdfeed_worker.model import Dead, Item
from birdfeed_worker.pipeline.alike import Alike
from birdfeed_worker.pipeline.validate import leftover
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.normalise import usage_of
from birdfeed_worker.pricing.usage.raw import raw_usage
from birdfeed_worker.tiers.choose import choose_tier
from birdfeed_worker.tiers.lookup import TierLookup

log = logging.getLogger(__name__)


#: Items with their valid events.
Valid: TypeAlias = Sequence[tuple[Item, Event]]


_encode: Final = msgspec.json.Encoder().encode


@dataclass
class Enricher:
    """Makes rows from valid events.

    Args:
        extra_fields: Fields outside the models that the operator stores.
    """

    books: BookSource
    lookup: TierLookup
    _: KW_ONLY
    extra_fields: frozenset[str]
    keep_traceback: bool
    _alike: Alike = field(init=False, default_factory=Alike)

    def tiers_in_cache(self, events: Valid) -> Mapping[str, str] | None:
        """The tiers of their users, if all are cached; else None."""
        users = _users(events)
        return self.lookup.recall(users) if users else {}

    def tiers(self, events: Iterable[tuple[Item, Event]]) -> Mapping[str, str]:
        """The tiers of their users, looked up together, so that the wait is only one."""
        users = _users(events)
        return self.lookup.look_up(users) if users else {}

    def enrich(
        self,
        event_type: EventType,
        events: Valid,
        now: datetime,
        tiers: Mapping[str, str] | None = None,
        *,
        short: bool = False,
    ) -> None:
        """Set every item's row, as JSON.

        Args:
            event_type: The type of all events.
            now: The rows' version.
            tiers: Users' tiers; None: they are looked up.
            short: Whether the type's table takes short rows.
        """
        books = self.books.current()
        answers = self.tiers(events) if tiers is None else tiers
        make_row = self._alike.maker(event_type, books, answers, now, short=short)
        for item, event in events:
            try:
                if make_row(item, event):
                    continue
                enriched = self._enriched(event_type, item, event, books, answers, now, short)
                row = event_type.build_row(enriched)
                if self._alike.learn(event_type, books, answers, enriched, row) and make_row(item, event):
                    continue  # make every event's row from what was learnt, the first one's too
                item.row = compact_bytes(_encode(row))
                item.cost_status = enriched.price.cost_status
            except Exception as error:
                # A bug of ours, or in another package's row builder: only this event is dead-lettered.
                log.exception("%s: event %s can't be enriched", event_type.name, item.event_id)
                item.outcome = Dead(
                    "internal_error", f"birdfeed's own code failed on this event: {type(error).__name__}"
                )

    def _enriched(
        self,
        event_type: EventType,
        item: Item,
        event: Event,
        books: Books,
        answers: Mapping[str, str],
        now: datetime,
        short: bool,
    ) -> Enriched:
        envelope = item.envelope
        assert envelope is not None
        usage = usage_of(event)
        times = times_of(event, envelope.occurred_at)
        # An impossible start time is clamped, for the price as for the row.
        at = envelope.occurred_at if event.start_time is None else times.start
        kept = raw_usage(event.usage)
        extra, dropped = leftover(event_type.name, envelope.data, self.extra_fields)
        price = price_event(event_type.name, event, usage, at, books)
        user = event.user
        return Enriched(
            envelope,
            event,
            price.usage or usage,
            price,
            choose_tier(event.tier, user, answers.get(user) if user else None),
            now,
            extra,
            envelope.dropped_fields + dropped,
            item.header.replay_id,
            self.keep_traceback,
            kept.text,
            kept.dropped,
            times,
            short,
        )


def _users(events: Iterable[tuple[Item, Event]]) -> set[str]:
    """The users of events without a tier of their own."""
    return {event.user for _, event in events if event.user and not (event.tier and event.tier.strip())}
