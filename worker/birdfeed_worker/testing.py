"""For tests of programs that use birdfeed: the priced row that a worker would write for an event.

    from birdfeed.testing import capture
    from birdfeed_worker.testing import priced

    def test_an_answer_has_a_cost():
        with capture() as events:
            client.post("/answer", json={"prompt": "hello"})
        row = priced(events.only)
        assert (row["cost_status"], row["cost"] > 0) == ("priced", True)

It needs the extra `worker`. It uses no Redis, Tinybird or other server.
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
    """An event as it left a program, such as birdfeed.testing's CapturedEvent."""

    @property
    def event_id(self) -> str:
        """Its id, a UUID."""

    @property
    def event_type(self) -> str:
        """Its type, such as text_generation."""

    @property
    def occurred_at(self) -> datetime:
        """When it was tracked (timezone-aware)."""

    @property
    def data(self) -> dict[str, Any]:
        """The data that the handler sent, as JSON."""

    @property
    def dropped_fields(self) -> int:
        """The number of values that were left out."""

    @property
    def truncated(self) -> int:
        """The number of values that were cut."""


def priced(
    event: Event,
    *,
    price_book: Path | None = None,
    tiers: Mapping[str, str] | None = None,
    extra_fields: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The row that a worker would write for an event, by column; docs/reference/columns.md explains the columns.

    Args:
        event: A captured event.
        price_book: The operator's own file (BIRDFEED_PRICE_BOOK); None: only the shipped prices.
        tiers: User → tier, instead of a look-up; with users as in the event, so hashed if they are hashed there.
        extra_fields: The names in BIRDFEED_EXTRA_FIELDS.

    Returns:
        Column → value: times are datetimes (UTC), `cost` is a Decimal in USD, all others are as in the row's JSON.
        Columns that the row leaves out have their default.

    Raises:
        DeadEventError: The worker would dead-letter the event; `reason` and `detail` say why.
        PriceBookError: The file is not a valid price book.
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
    """The value of a column, from a row's JSON."""
    value: Any = row
    for part in path.split(".")[1:]:
        value = value.get(part, default) if isinstance(value, dict) else value
    if column_type.startswith("Decimal"):
        return Decimal(value)
    return datetime.fromisoformat(value) if column_type.startswith("DateTime") else value
