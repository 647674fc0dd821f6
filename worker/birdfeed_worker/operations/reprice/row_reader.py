"""Read stored rows back from Tinybird, in pages, the newest version of each event, as the JSON that was written.

The SQL API answers by column. A row is rebuilt with the columns' JSON paths from the shipped datafiles, so that writing
it again gives every column the value that it has. That includes columns that only earlier datafiles had.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from operator import attrgetter
from typing import Any, Final, Protocol

from birdfeed_schemas.datafiles import Column, columns_of, former_columns
from birdfeed_schemas.wire.envelope import format_time

from birdfeed_worker.chunks import bounded
from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.tinybird.lookup import sql_text, sql_time

#: Rows in one query: about 10 MB of JSON, and 50 MB of memory.
PAGE_ROWS: Final = 5_000


class NotOursError(BirdfeedError):
    """A table isn't birdfeed's, or differs from the shipped one, so that its rows can't be written back unchanged."""


class Reader(Protocol):
    """The method of Tinybird's client that is used here."""

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT; raises QuotaError and QueryError."""


def _expression(column: Column) -> str:
    """SQL that returns the exact value, as text if a JSON number would be read as a float."""
    if column.type.startswith("Decimal"):
        return f"toString({column.name}) AS {column.name}"
    if column.type.startswith("DateTime"):
        return f"toString({column.name}, 'UTC') AS {column.name}"
    return column.name


def _select(columns: tuple[Column, ...], datasource: str, rest: str) -> str:
    """SQL for the newest rows; conditions are about the columns, not about the texts that are made of them."""
    names = ", ".join(column.name for column in columns)
    return f"SELECT {', '.join(map(_expression, columns))} FROM (SELECT {names} FROM {datasource} FINAL {rest})"


def _converter(column: Column) -> Callable[[Any], Any] | None:
    """The function that converts the SQL API's value into the row's JSON value; None if they are the same."""
    if column.type.startswith("DateTime"):
        return _iso
    if column.type.startswith("UInt"):
        return int  # 64-bit numbers may be returned as text
    return float if column.type.startswith("Float") else None


def _iso(text: str) -> str:
    return text.replace(" ", "T") + "Z"


def shipped_columns(datasource: str) -> tuple[Column, ...]:
    """The columns of a data source, as birdfeed ships it.

    Raises:
        NotOursError: birdfeed ships no such data source.
    """
    if not (files("birdfeed_schemas") / "data" / "datasources" / f"{datasource}.datasource").is_file():
        raise NotOursError(f"birdfeed doesn't ship a data source {datasource!r}, so it can't rebuild its rows")
    return columns_of(datasource)


@cache
def _readers(columns: tuple[Column, ...]) -> tuple[tuple[str, list[str], str, Callable[[Any], Any] | None], ...]:
    """For each column: its name, the objects that its value is in, its key there, and its converter."""
    paths = [(column, column.path.split(".")[1:]) for column in columns]
    return tuple((column.name, path[:-1], path[-1], _converter(column)) for column, path in paths)


def to_json(columns: tuple[Column, ...], answered: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was written, from the SQL API's answer with these columns.

    It lacks the field `cost`, which only older tables' columns read.
    """
    row: dict[str, Any] = {}
    for name, inside, key, convert in _readers(columns):
        value = answered[name]
        place = row
        for part in inside:
            place = place.setdefault(part, {})
        place[key] = value if convert is None else convert(value)
    return row


def read_event_row(reader: Reader, datasource: str, event_id: str) -> dict[str, Any] | None:
    """The newest version of one event's row, as it was written; None if there is none. Raises as Reader.query does."""
    columns = shipped_columns(datasource)
    answered = reader.query(_select(columns, datasource, f"WHERE event_id = {sql_text(event_id)} LIMIT 1"))
    return to_json(columns, answered[0]) if answered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A selection of rows: occurred_at from `since` (inclusive) to `until` (exclusive), of any of these models, or all.

    A model matches by the requested name, the name that answered, or the price's name.
    """

    since: datetime
    until: datetime
    models: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The SQL condition."""
        within = f"occurred_at >= '{sql_time(self.since)}' AND occurred_at < '{sql_time(self.until)}'"
        if not self.models:
            return within
        names = ", ".join(map(sql_text, self.models))
        return f"{within} AND (model IN ({names}) OR model_used IN ({names}) OR price_model IN ({names}))"


@dataclass(frozen=True, slots=True)
class Hour:
    """The number of events in an hour (counting the newest version of each), and how many `fit` a condition."""

    start: datetime
    events: int
    eligible: int


@dataclass(slots=True)
class StoredRows:
    """The rows of one data source.

    Args:
        condition: An additional SQL condition.
        page_rows: Rows in one query at most; PAGE_ROWS by default.
    """

    reader: Reader
    datasource: str
    selection: Selection
    condition: str = "1"
    page_rows: int = field(default_factory=lambda: PAGE_ROWS)
    columns: tuple[Column, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = shipped_columns(self.datasource)

    def check(self) -> None:
        """Check that the table has the columns that birdfeed ships, and no others than it once shipped.

        Raises:
            NotOursError: It has others, or lacks one.
        """
        some = self.reader.query(f"SELECT * FROM {self.datasource} LIMIT 1")
        if not some:
            return
        theirs = set(some[0])
        self.columns += tuple(column for column in former_columns(self.datasource) if column.name in theirs)
        ours = {column.name for column in self.columns}
        if ours - theirs:
            missing = ", ".join(sorted(ours - theirs)[:5])
            raise NotOursError(
                f"{self.datasource} is not birdfeed's own table (it has no {missing}): without receipts and versions "
                "its rows can't be repriced"
            )
        if theirs - ours:
            added = ", ".join(sorted(theirs - ours)[:5])
            raise NotOursError(
                f"{self.datasource} has columns that birdfeed doesn't know ({added}): writing its rows again would "
                "lose what is in them"
            )

    def hours(self) -> list[Hour]:
        """The hours that have events."""
        rows = self.reader.query(
            "SELECT toString(toStartOfHour(occurred_at), 'UTC') AS hour, toString(count()) AS events, "
            f"toString(countIf({self.condition})) AS fit FROM {self.datasource} FINAL "
            f"WHERE {self.selection.where} GROUP BY hour ORDER BY hour"
        )
        return [
            Hour(datetime.fromisoformat(f"{row['hour'][:19]}+00:00"), int(row["events"]), int(row["fit"]))
            for row in rows
        ]

    def pages(self, hours: Sequence[Hour]) -> Iterator[list[dict[str, Any]]]:
        """The matching rows as JSON, a page at a time; only one page is in memory."""
        for first, last in _windows(hours, self.page_rows):
            yield from self._window(first, last + timedelta(hours=1))

    def _window(self, start: datetime, end: datetime) -> Iterator[list[dict[str, Any]]]:
        """Pages in the order of the table, so that each query continues where the previous one ended."""
        after = ""
        while True:
            rest = (
                f"WHERE {self.selection.where} AND occurred_at >= '{sql_time(start)}' "
                f"AND occurred_at < '{sql_time(end)}' AND {self.condition}{after} "
                f"ORDER BY toStartOfHour(occurred_at), model, event_id LIMIT {self.page_rows}"
            )
            answered = self.reader.query(_select(self.columns, self.datasource, rest))
            if answered:
                yield [to_json(self.columns, row) for row in answered]
            if len(answered) < self.page_rows:
                return
            hour, model, event_id = max(_position(row) for row in answered)
            place = f"toDateTime({sql_text(hour)}, 'UTC'), {sql_text(model.decode())}, {sql_text(event_id.decode())}"
            after = f" AND (toStartOfHour(occurred_at), model, event_id) > ({place})"


def _position(row: Mapping[str, Any]) -> tuple[str, bytes, bytes]:
    """A row's position in the order of the table; ClickHouse sorts text by its bytes."""
    return row["occurred_at"][:13] + ":00:00", row["model"].encode(), row["event_id"].encode()


def _windows(hours: Sequence[Hour], rows: int) -> Iterator[tuple[datetime, datetime]]:
    """First and last hour of periods with fewer than `rows` matching rows; an hour with more is a period of its own."""
    for part in bounded((hour for hour in hours if hour.eligible), attrgetter("eligible"), rows - 1):
        yield part[0].start, part[-1].start


def later_than(text: str, now: datetime) -> str:
    """`now`, or, if a stored time is not before it, the smallest time after that; in the form of a row's JSON."""
    return format_time(max(now, datetime.fromisoformat(text) + timedelta(microseconds=1)))
