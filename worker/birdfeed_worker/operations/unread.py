"""Usage that was not read, or not completely, grouped by its shape: a reason for a cost that is missing or too low."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from birdfeed_worker.errors import QueryError
from birdfeed_worker.pricing.usage.readings import readings
from birdfeed_worker.tinybird.lookup import sql_time

#: Shapes read at most.
MAX_SHAPES: Final = 200
#: usage_status → why it is listed, and what to do.
ADVICE: Final[Mapping[str, str]] = {
    "incomplete": "Part of it was not read: the cost is a lower bound",
    "invalid": "Not read: send the usage exactly as the SDK returns it",
    "stream_without_usage": 'A stream without usage: ask for it, such as stream_options={"include_usage": true}',
    "missing": "A success without usage: send it, if the provider reports one",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Rows whose usage has the same keys, in one data source.

    Attributes:
        status: Their usage_status.
        keys: The keys of the usage, sorted; empty if the row keeps no usage.
        events: Number of events; `last` is when the last of them occurred (UTC, to the minute).
        model, provider: Those of one of the events.
        not_read: The names of its numbers that were not read.
    """

    status: str
    keys: str
    events: int
    last: str
    model: str
    provider: str
    not_read: tuple[str, ...]

    def __str__(self) -> str:
        what = f"keys {self.keys}" if self.keys else "nothing kept of it"
        unread = f"; not read: {', '.join(self.not_read)}" if self.not_read else ""
        such_as = f"such as {self.model} at {self.provider}, last {self.last}"
        return f"{self.events} x {self.status} ({such_as}): {what}{unread}. {ADVICE[self.status]}."


def read_shapes(
    query: Callable[[str], list[dict[str, Any]]], datasources: Iterable[str], since: datetime
) -> tuple[list[Shape], list[str]]:
    """The shapes of these data sources, most events first, and the data sources without a usage_raw column.

    Raises:
        QueryError, QuotaError: As `query` raises them, except for a missing column.
    """
    rows: list[dict[str, Any]] = []
    without: list[str] = []
    for datasource in datasources:
        try:
            rows += query(question(datasource, since))
        except QueryError as error:
            if error.status != 400:
                raise
            without.append(datasource)
    return shapes_of(rows), without


def question(datasource: str, since: datetime) -> str:
    """SQL for the shapes of a data source; each event once. Image events don't need a usage."""
    missing = " OR (usage_status = 'missing' AND cost_status = 'no_usage' AND response_status = 'success')"
    return (
        "SELECT usage_status, arrayStringConcat(arraySort(JSONExtractKeys(usage_raw)), ', ') AS keys, "
        "any(model_used) AS model, any(provider) AS maker, any(usage_raw) AS example, toString(count()) AS events, "
        f"toString(max(occurred_at), 'UTC') AS last FROM {datasource} FINAL "
        f"WHERE occurred_at >= '{sql_time(since)}' "
        "AND (usage_status IN ('incomplete', 'invalid', 'stream_without_usage')"
        f"{missing if datasource == 'llm_events' else ''}) AND cost_status NOT IN ('reported', 'cache_hit') "
        f"GROUP BY usage_status, keys ORDER BY count() DESC, keys LIMIT {MAX_SHAPES}"
    )


def shapes_of(rows: Iterable[Mapping[str, Any]]) -> list[Shape]:
    """The shapes, from the answers to these queries; most events first."""
    found = [
        Shape(
            status=row["usage_status"],
            keys=row["keys"],
            events=int(row["events"]),
            last=row["last"][:16],
            model=row["model"],
            provider=row["maker"],
            not_read=_not_read(row["example"]),
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (-one.events, one.status, one.keys))


def _not_read(example: str) -> tuple[str, ...]:
    raw = orjson.loads(example) if example else None
    return tuple(f"usage.{one.keys}" for one in readings(raw) if one.note == "not read")


def as_json(one: Shape) -> dict[str, Any]:
    """One shape for JSON output."""
    return {
        "usage_status": one.status,
        "keys": one.keys.split(", ") if one.keys else [],
        "events": one.events,
        "last": datetime.fromisoformat(one.last).replace(tzinfo=UTC).isoformat(),
        "model": one.model,
        "provider": one.provider,
        "not_read": list(one.not_read),
        "advice": ADVICE[one.status],
    }
