"""Verify: ask Tinybird which events it already has, in the table and in quarantine, before anything is sent again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, TypeVar
from uuid import UUID

from birdfeed_worker.tinybird import Tinybird

T = TypeVar("T")

#: Ids asked for at once: 4,000 UUIDs are 156 kB of query, under ClickHouse's max_query_size of 256 kB.
IDS_PER_QUERY: Final = 4_000
#: A row's occurred_at is cut to milliseconds in the store, and an event_id's clock is that of occurred_at.
_MARGIN: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that are in the table, and those in quarantine with Tinybird's own reason."""

    written: frozenset[str]
    quarantined: dict[str, str]


def find(tinybird: Tinybird, datasource: str, events: Sequence[tuple[str, datetime]]) -> Found:
    """Which of these events (event_id, occurred_at) the data source already has.

    Raises:
        QuotaError: Ask again later.
        QueryError: The question could not be answered; nothing may be concluded.
    """
    written: set[str] = set()
    quarantined: dict[str, str] = {}
    for chunk in chunks(events):
        ids = ",".join(f"'{UUID(event_id)}'" for event_id, _ in chunk)
        times = [occurred_at for _, occurred_at in chunk]
        first, last = sql_time(min(times) - _MARGIN), sql_time(max(times) + _MARGIN)
        rows = tinybird.query(
            f"SELECT DISTINCT event_id FROM {datasource} "
            f"WHERE occurred_at BETWEEN '{first}' AND '{last}' AND event_id IN ({ids})"
        )
        written.update(row["event_id"] for row in rows)
        quarantined.update(find_quarantined(tinybird, datasource, [event_id for event_id, _ in chunk]))
    return Found(frozenset(written), {one: why for one, why in quarantined.items() if one not in written})


def find_quarantined(tinybird: Tinybird, datasource: str, event_ids: Iterable[str]) -> dict[str, str]:
    """Which of these are in quarantine: event_id → Tinybird's reason. Raises as find does."""
    found: dict[str, str] = {}
    for chunk in batched(event_ids, IDS_PER_QUERY):
        ids = ",".join(f"'{UUID(event_id)}'" for event_id in chunk)
        rows = tinybird.query(
            "SELECT event_id, any(arrayStringConcat(c__error_column, ', ')) AS columns, "
            "any(arrayStringConcat(c__error, '; ')) AS reasons "
            f"FROM {datasource}_quarantine WHERE event_id IN ({ids}) GROUP BY event_id"
        )
        for row in rows:
            found[row["event_id"]] = f"{row['columns']}: {row['reasons']}"
    return found


def chunks(events: Sequence[tuple[str, datetime]]) -> Iterator[tuple[tuple[str, datetime], ...]]:
    """By time, so that each query reads a short stretch of the table."""
    yield from batched(sorted(events, key=lambda event: event[1]), IDS_PER_QUERY)


def batched(values: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """itertools.batched, which Python has from 3.12 on."""
    iterator = iter(values)
    while batch := tuple(islice(iterator, size)):
        yield batch


def sql_time(when: datetime) -> str:
    """A DateTime64 literal, UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
