"""Price one event given as JSON: what `birdfeed prices estimate --json` prints."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from birdfeed_schemas.enrichment import Price, Usage
from birdfeed_schemas.events import Event, read_time
from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.meters import TOKEN_CLASSES
from pydantic import ValidationError

from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.money import plain
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.normalise import usage_of


class RecordError(BirdfeedError):
    """An event can't be priced; `reasons` says why, field by field."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(self.reasons)


class PricedRecord(NamedTuple):
    """An event with its usage and its price."""

    event: Event
    usage: Usage
    price: Price


def price_record(record: object, books: Books, now: datetime | None = None) -> PricedRecord:
    """Validate and price one event.

    Args:
        record: {"event_type": ..., "event_data": {...}}, with "occurred_at" if the date matters and the event has no
            start_time.
        now: The date of events without one (aware); the current time by default.

    Raises:
        RecordError: The record is not a valid event.
    """
    if not isinstance(record, Mapping):
        raise RecordError(("a record is an object with event_type and event_data",))
    kind = record.get("event_type")
    known = registry()
    if not isinstance(kind, str) or kind not in known:
        raise RecordError((f"event_type: {kind!r} is not one of {', '.join(sorted(known))}",))
    try:
        occurred_at = read_time(record.get("occurred_at")) or now or datetime.now(UTC)
    except ValueError as error:
        raise RecordError((f"occurred_at: {error}",)) from error
    try:
        event = known[kind].event.model_validate(record.get("event_data"))
    except ValidationError as error:
        raise RecordError(
            tuple(
                f"{'.'.join(map(str, ('event_data', *part['loc'])))}: {part['msg']}"
                for part in error.errors(include_url=False)
            )
        ) from error
    usage = usage_of(event)
    # Not clamped, unlike in a row: prices of any date can be asked for.
    at = event.start_time or occurred_at
    price = price_event(kind, event, usage, at, books)
    return PricedRecord(event, price.usage or usage, price)


def price_line(record: object, books: Books, now: datetime | None = None) -> dict[str, Any]:
    """What `birdfeed prices estimate --json` prints for one event; arguments and errors are price_record's.

    Returns:
        cost (USD, plain decimal text), cost_status, usage_status, tokens (the classes that are not 0), counters (if
        anything else is billed), price_match, price_model (None without a price) and provider (None if unknown).
    """
    _, usage, price = price_record(record, books, now)
    counts = ((name, getattr(usage.tokens, name)) for name in TOKEN_CLASSES)
    return {
        "cost": plain(price.cost),
        "cost_status": price.cost_status,
        "usage_status": usage.status,
        "tokens": {name: count for name, count in counts if count},
        **({"counters": _plainly(usage.counters)} if usage.counters else {}),
        "price_match": price.price_match,
        "price_model": price.price_model,
        "provider": price.provider,
    }


def _plainly(counters: Mapping[str, int | Decimal]) -> dict[str, int | float]:
    return {name: count if isinstance(count, int) else float(count) for name, count in counters.items()}
