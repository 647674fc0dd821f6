"""Verify: ask Tinybird which events it already has, in the table and in quarantine, before anything is sent again.

Cheap, because an event_id is a UUIDv7: a batch of events bounds its own stretch of time, and the data sources are
sorted by occurred_at and event_id (docs/explanation/reading-costs.md has what it reads).
The llm_events of Tinybird's LLM template has
neither column: there an event is found by `id`, and by `timestamp`, which is its start_time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from birdfeed_schemas.times import MAX_CLOCK_AHEAD, MAX_DURATION
from pydantic import TypeAdapter, ValidationError

from birdfeed_worker.chunks import batched
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.responses import shape_error

T = TypeVar("T")

#: The end of an event_id, all of it random: 48 bits tell a batch's events apart from nearly all others of its time.
_TAIL: Final = 12
#: Ids asked for at once: 14,000 ends are 210 kB of query, under ClickHouse's max_query_size of 256 kB; whole ids would
#: be 550 kB. So a full request is one question, of the 1,000 a day that the free plan answers.
IDS_PER_QUERY: Final = 14_000
#: A row's occurred_at is cut to milliseconds in the store, and an event_id's clock is that of occurred_at.
_MARGIN: Final = timedelta(seconds=1)
#: Nearly every event starts within this time before it is tracked.
_USUAL_DURATION: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that are in the table, and those in quarantine with Tinybird's own reason."""

    written: frozenset[str]
    quarantined: dict[str, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """How a table knows an event.

    Attributes:
        id: The column with its event_id.
        time: The column with a time of it.
        windows: How far `time` may lie before and after occurred_at; each is asked in turn for what the one before
            did not find.
    """

    id: str
    time: str
    windows: tuple[tuple[timedelta, timedelta], ...]


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of the answer to "which of these are there"."""

    event_id: str


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row of the answer to "which of these are in quarantine, and why"."""

    event_id: str
    columns: str
    reasons: str


_FOUND: Final = TypeAdapter(list[FoundRow])
_QUARANTINED: Final = TypeAdapter(list[QuarantinedRow])

OURS: Final = Identity("event_id", "occurred_at", ((_MARGIN, _MARGIN),))
#: start_time is at most MAX_DURATION before an end_time that is at most MAX_DURATION before occurred_at (times.py).
TEMPLATES: Final = Identity(
    "id",
    "timestamp",
    ((_USUAL_DURATION, _MARGIN), (2 * MAX_DURATION + _MARGIN, MAX_CLOCK_AHEAD + _MARGIN)),
)


def find(tinybird: Tinybird, datasource: str, events: Sequence[tuple[str, datetime]]) -> Found:
    """Which of these events (event_id, occurred_at) the data source already has.

    Raises:
        QuotaError: Ask again later.
        QueryError: The question could not be answered; nothing may be concluded.
    """
    identity = identity_of(tinybird, datasource)
    written: set[str] = set()
    try:
        for before, after in identity.windows:
            missing = [event for event in events if event[0] not in written]
            for chunk in chunks(missing):
                asked = {event_id for event_id, _ in chunk}
                rows = rows_of(_FOUND, tinybird.query(written_sql(datasource, identity, chunk, before, after)))
                written.update(row.event_id for row in rows if row.event_id in asked)
        quarantined = find_quarantined(tinybird, datasource, [one for one, _ in events if one not in written])
    except QueryError:
        tinybird.forget_columns(datasource)  # the table may have been exchanged for another
        raise
    return Found(frozenset(written), quarantined)


def identity_of(tinybird: Tinybird, datasource: str) -> Identity:
    """How a data source knows an event: by its columns, which are asked for once.

    Raises:
        QuotaError: Ask again later.
        QueryError: They can't be read, or no column holds an event's id.
    """
    columns = tinybird.columns(datasource)
    for identity in (OURS, TEMPLATES):
        if identity.id in columns and identity.time in columns:
            return identity
    raise QueryError(0, f"{datasource} has neither event_id and occurred_at nor id and timestamp: see its datafile")


def written_sql(
    datasource: str, identity: Identity, chunk: Sequence[tuple[str, datetime]], before: timedelta, after: timedelta
) -> str:
    """The SELECT that finds these events, in order of time, with `identity.time` around their occurred_at.

    It may find others too, whose ids end alike: whoever asks compares the whole id.
    """
    first, last = sql_time(chunk[0][1] - before), sql_time(chunk[-1][1] + after)
    return (
        f"SELECT DISTINCT {identity.id} AS event_id FROM {datasource} "
        f"WHERE {identity.time} BETWEEN toDateTime64('{first}', 3, 'UTC') AND toDateTime64('{last}', 3, 'UTC') "
        f"AND {_among(identity.id, [event_id for event_id, _ in chunk])}"
    )


def rows_of(model: TypeAdapter[list[T]], rows: Sequence[Mapping[str, Any]]) -> list[T]:
    """Rows of an answer as what was asked for; raises QueryError where they are something else."""
    try:
        return model.validate_python(rows)
    except ValidationError as error:
        raise QueryError(200, f"the answer's rows are not what was asked for ({shape_error(error)})") from None


def _among(column: str, event_ids: Sequence[str]) -> str:
    """A condition that these ids fit, and hardly any other: between the first and the last of them, which the sorting
    key serves, with one of their ends, which are short.
    """
    ids = [str(UUID(event_id)) for event_id in event_ids]
    ends = ",".join(f"'{one[-_TAIL:]}'" for one in ids)
    return f"{column} BETWEEN '{min(ids)}' AND '{max(ids)}' AND right({column}, {_TAIL}) IN ({ends})"


def find_quarantined(tinybird: Tinybird, datasource: str, event_ids: Iterable[str]) -> dict[str, str]:
    """Which of these are in quarantine: event_id → Tinybird's reason. Raises as find does."""
    identity = identity_of(tinybird, datasource)
    found: dict[str, str] = {}
    for chunk in batched(event_ids, IDS_PER_QUERY):
        asked = set(chunk)
        answered = tinybird.query(
            f"SELECT {identity.id} AS event_id, any(arrayStringConcat(c__error_column, ', ')) AS columns, "
            "any(arrayStringConcat(c__error, '; ')) AS reasons "
            f"FROM {datasource}_quarantine WHERE {_among(identity.id, chunk)} GROUP BY {identity.id}"
        )
        for row in rows_of(_QUARANTINED, answered):
            if row.event_id in asked:
                found[row.event_id] = f"{row.columns}: {row.reasons}"
    return found


def chunks(events: Sequence[tuple[str, datetime]]) -> Iterator[tuple[tuple[str, datetime], ...]]:
    """By time, so that each query reads a short stretch of the table."""
    yield from batched(sorted(events, key=lambda event: event[1]), IDS_PER_QUERY)


def sql_time(when: datetime) -> str:
    """A DateTime64 literal, UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
