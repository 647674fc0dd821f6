"""Reprice stored rows: read them page by page, judge each, collect the corrections, count the difference."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.operations.reprice.corrections import Corrections
from birdfeed_worker.operations.reprice.judge import NO_BOOK_DECIDES, Unchanged, reprice
from birdfeed_worker.operations.reprice.row_reader import Hour, NotOursError, Reader, Selection, StoredRows
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.money import EXACT

#: The longest wait in seconds for a used-up read quota; a daily quota is not waited for.
LONGEST_QUOTA_WAIT: Final = 60.0
#: How often a query is made if Tinybird gives no answer; the wait between two grows by a second each time.
QUERY_TRIES: Final = 4


@dataclass(slots=True)
class Difference:
    """What corrections change: the number of rows, and their old and new cost in USD."""

    rows: int = 0
    old: Decimal = Decimal(0)
    new: Decimal = Decimal(0)

    def add(self, rows: int, old: Decimal, new: Decimal) -> None:
        """Add rows with their total costs, exactly."""
        self.rows += rows
        self.old = EXACT.add(self.old, old)
        self.new = EXACT.add(self.new, new)


@dataclass(slots=True)
class Counters:
    """The result of a run.

    `unchanged` and `refused` count events by reason (judge.REASONS), `models` holds the corrections by requested model;
    `limited` says that some rows were not read because the limit was reached.
    """

    events: int = 0
    corrections: int = 0
    models: dict[str, Difference] = field(default_factory=dict)
    unchanged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    limited: bool = False

    @property
    def total(self) -> Difference:
        """All models together."""
        total = Difference()
        for part in self.models.values():
            total.add(part.rows, part.old, part.new)
        return total


@dataclass(frozen=True, slots=True)
class RetryingReader:
    """A reader that asks again if that may help: after no answer, or if the quota is renewed soon."""

    reader: Reader
    sleep: Callable[[float], object] = time.sleep

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT; raises QuotaError if the quota isn't renewed soon, and QueryError."""
        for attempt in range(1, QUERY_TRIES):
            try:
                return self.reader.query(sql)
            except QuotaError as error:
                if error.retry_after > LONGEST_QUOTA_WAIT:
                    raise
                self.sleep(error.retry_after)
            except QueryError as error:
                if error.status != 0 and error.status < 500:
                    raise
                self.sleep(float(attempt))
        return self.reader.query(sql)


@dataclass(frozen=True, slots=True)
class Table:
    """A data source to reprice, and the hours of its events."""

    datasource: str
    rows: StoredRows
    hours: Sequence[Hour]

    @property
    def events(self) -> int:
        """Events whose cost comes from a book."""
        return sum(hour.eligible for hour in self.hours)


def open_table(reader: Reader, datasource: str, selection: Selection) -> Table:
    """A data source that can be repriced.

    Raises:
        NotOursError: It can't be repriced.
        QuotaError, QueryError: Tinybird doesn't answer.
    """
    rows = StoredRows(reader, datasource, selection, f"NOT ({NO_BOOK_DECIDES})")
    try:
        rows.check()
        return Table(datasource, rows, rows.hours())
    except QueryError as error:
        if error.status in (400, 404):
            raise NotOursError(f"{datasource} can't be repriced: {error.detail}") from error
        raise


def scan(
    table: Table, books: Books, now: datetime, corrections: Corrections, tally: Counters, limit: int | None = None
) -> Iterator[int]:
    """Judge every row of a table; yields how many were judged, page by page.

    Corrections are collected, not written. `limit` is the most of them in all tables. Raises what the reader raises.
    """
    tally.events += sum(hour.events for hour in table.hours)
    fixed = sum(hour.events - hour.eligible for hour in table.hours)
    if fixed:
        tally.unchanged["no_book_decides"] += fixed
    for page in table.rows.pages(table.hours):
        for row in page:
            if limit is not None and tally.corrections >= limit:
                tally.limited = True
                break
            judged = reprice(row, books, now)
            if isinstance(judged, Unchanged):
                (tally.refused if judged.refused else tally.unchanged)[judged.reason] += 1
                continue
            tally.models.setdefault(row["model"], Difference()).add(1, judged.old, judged.new)
            tally.corrections += 1
            corrections.add(table.datasource, judged.row)
        yield len(page)
        if tally.limited:
            break
    corrections.close_body()
