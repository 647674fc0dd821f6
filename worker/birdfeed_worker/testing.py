"""For the tests of programs that use birdfeed: the row that a worker would write of an event, priced.

    from birdfeed.testing import capture
    from birdfeed_worker.testing import priced

    def test_an_answer_has_a_cost():
        with capture() as events:
            client.post("/answer", json={"prompt": "hello"})
        row = priced(events.only)
        assert (row["cost_status"], row["cost"] > 0) == ("priced", True)

Needs the extra `worker`. Nothing is asked of Redis, Tinybird or any server.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import orjson
from birdfeed_schemas.datafiles import columns_of, paths_of
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Envelope, Header

from birdfeed_worker.errors import DeadEventError
from birdfeed_worker.model import Dead, Item
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.tiers.lookup import NoTiers


class Event(Protocol):
    """An event as it left a program: birdfeed.testing's CapturedEvent is one."""

    @property
    def event_id(self) -> str:
        """A UUID."""

    @property
    def event_type(self) -> str:
        """Such as text_generation."""

    @property
    def occurred_at(self) -> datetime:
        """When it was tracked, with a zone."""

    @property
    def data(self) -> dict[str, Any]:
        """What the handler sent, as JSON."""

    @property
    def dropped_fields(self) -> int:
        """How many of its values were left out."""

    @property
    def truncated(self) -> int:
        """How many of its values were cut."""


def priced(
    event: Event,
    *,
    price_book: Path | None = None,
    tiers: Mapping[str, str] | None = None,
    extra_fields: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The row a worker would write of an event, by column: docs/reference/columns.md says what each holds.

    Args:
        event: A captured event.
        price_book: The operator's own file (BIRDFEED_PRICE_BOOK); None: the shipped prices alone.
        tiers: User → tier, in place of a lookup; users as the event has them, hashed where it has them hashed.
        extra_fields: Names of BIRDFEED_EXTRA_FIELDS.

    Returns:
        Column → value: times are datetimes (UTC), `cost` is a Decimal of USD, all others as in the row's JSON. Columns
        that the row leaves out have their default.

    Raises:
        DeadEventError: The worker would make a dead letter of the event; `reason` and `detail` say why.
        PriceBookError: The file is not a price book.
    """
    header = Header(batch_id="", event_type=event.event_type, count=1)
    envelope = Envelope(
        event_id=event.event_id,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        data=event.data,
        dropped_fields=event.dropped_fields,
        truncated=event.truncated,
    )
    item = Item(job_id="", header=header, source=b"", envelope=envelope)
    valid = validate(event.event_type, [item])
    if valid:
        enricher = Enricher(_books(price_book), NoTiers(), extra_fields=extra_fields, keep_traceback=True)
        enricher.enrich(registry()[event.event_type], valid, datetime.now(UTC), tiers or {})
    if isinstance(item.outcome, Dead):
        raise DeadEventError(item.outcome.reason, item.outcome.detail)
    return _by_column(event.event_type, orjson.loads(item.row))


@cache
def _books(price_book: Path | None) -> BookSource:
    return BookSource(price_book, fallback=GenaiPrices())


def _by_column(event_type: str, row: dict[str, Any]) -> dict[str, Any]:
    known = registry()[event_type]
    fields = paths_of(known.row)
    return {
        column.name: _value(column.type, row, column.path, fields[column.path].default)
        for column in columns_of(known.datasource)
    }


def _value(column_type: str, row: dict[str, Any], path: str, default: Any) -> Any:
    """What of a row's JSON is in a column."""
    value: Any = row
    for part in path.split(".")[1:]:
        value = value.get(part, default) if isinstance(value, dict) else value
    if column_type.startswith("Decimal"):
        return Decimal(value)
    return datetime.fromisoformat(value) if column_type.startswith("DateTime") else value
