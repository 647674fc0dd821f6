"""Ask Tinybird which events it already has, in the table and in quarantine, before anything is sent again.

It is cheap, because the events of a batch are close in time, and the data sources are sorted by occurred_at and
event_id (docs/explanation/reading-costs.md says how much it reads).
The llm_events of Tinybird's LLM template has neither column: there an event is found by `id`, and by `timestamp`, which
is its start_time.
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

#: Characters at the end of an event_id, all random: 48 bits distinguish a batch's events from nearly all others.
_TAIL: Final = 12
#: Ids in one query: 14,000 endings take 210 kB, less than ClickHouse's max_query_size of 256 kB; whole ids would take
#: 550 kB. So a full request needs one query, of the 1,000 per day that the free plan allows.
IDS_PER_QUERY: Final = 14_000
#: A row's occurred_at is cut to milliseconds in Tinybird, and an event_id's clock is that of occurred_at.
_MARGIN: Final = timedelta(seconds=1)
#: Nearly every event starts within this time before it is tracked.
_USUAL_DURATION: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Found:
    """Ids that are in the table; and those in quarantine, with Tinybird's reason."""

    written: frozenset[str]
    quarantined: dict[str, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """How a table identifies an event.

    Attributes:
        id: The column with its event_id.
        time: A column with its time.
        windows: How far `time` may be before and after occurred_at; each is queried for events that the previous one
            did not find.
    """

    id: str
    time: str
    windows: tuple[tuple[timedelta, timedelta], ...]


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row of the answer to "which of these exist"."""

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
        QueryError: There is no answer; nothing may be concluded.
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
        tinybird.forget_columns(datasource)  # the table may have been replaced by another
        raise
    return Found(frozenset(written), quarantined)


def identity_of(tinybird: Tinybird, datasource: str) -> Identity:
    """How a data source identifies an event, according to its columns, which are read once.

    Raises:
        QuotaError: Ask again later.
        QueryError: The columns can't be read, or none holds event ids.
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

    It may also find others with the same endings: the caller must compare whole ids.
    """
    first, last = sql_time(chunk[0][1] - before), sql_time(chunk[-1][1] + after)
    return (
        f"SELECT DISTINCT {identity.id} AS event_id FROM {datasource} "
        f"WHERE {identity.time} BETWEEN toDateTime64('{first}', 3, 'UTC') AND toDateTime64('{last}', 3, 'UTC') "
        f"AND {_among(identity.id, [event_id for event_id, _ in chunk])}"
    )


def rows_of(model: TypeAdapter[list[T]], rows: Sequence[Mapping[str, Any]]) -> list[T]:
    """The rows of an answer as models; raises QueryError if they don't fit."""
    try:
        return model.validate_python(rows)
    except ValidationError as error:
        raise QueryError(200, f"the answer's rows are not what was asked for ({shape_error(error)})") from None


def _among(column: str, event_ids: Sequence[str]) -> str:
    """A condition that matches these ids and hardly any others: between the first and the last of them (which uses the
    sorting key), and with one of their endings (which are short).
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
    """Parts of the events, sorted by time, so that each query reads a small part of the table."""
    yield from batched(sorted(events, key=lambda event: event[1]), IDS_PER_QUERY)


def sql_time(when: datetime) -> str:
    """A DateTime64 literal, UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def sql_text(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
