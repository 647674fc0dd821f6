"""`birdfeed prices missing`: models whose rows have no price, or only a part of one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from birdfeed_schemas.datafiles import datasources
from birdfeed_worker.errors import QueryError
from birdfeed_worker.operations.reprice.run import RetryingReader
from birdfeed_worker.operations.unpriced import Missing, amounts, as_json, entries, missing_of, question
from birdfeed_worker.operations.unread import Shape, read_shapes
from birdfeed_worker.operations.unread import as_json as shape_json
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of
from rich.table import Table

from birdfeed_cli.common.console import OK, PARTLY, err, out, print_json, print_lines, warn
from birdfeed_cli.common.store_access import NO_USAGE_RAW, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result: models, usage that was not read, the current books, and how many data sources were read.

    `notes` are sentences about data sources that could not be read completely.
    """

    missing: list[Missing]
    shapes: list[Shape]
    books: Books
    readable: int
    notes: list[str]


def run_missing(since: datetime, *, only_toml: bool, json: bool) -> int:
    """Print the models, most events first. Exit code 1 if there are any."""
    now = datetime.now(UTC)
    found = read_missing(WorkerSettings.load(), since, now)
    for note in found.notes:
        warn(note)
    if json:
        models, usage = map(as_json, found.missing), map(shape_json, found.shapes)
        print_json({"since": since.isoformat(), "models": list(models), "usage": list(usage)})
    else:
        _show(found.missing, since, found.books, now, only_toml=only_toml)
        if not only_toml:
            _show_unread(found.shapes)
    return PARTLY if found.missing or found.readable < len(datasources()) else OK


def read_missing(settings: WorkerSettings, since: datetime, now: datetime) -> Found:
    """Query Tinybird.

    Raises:
        ConfigurationError: The host or the read token is missing, or the price book is wrong.
        TinybirdError: It doesn't answer, or refuses.
    """
    books, notes = book_source_of(settings).current(), list[str]()
    answers: list[tuple[str, dict[str, Any]]] = []
    readable: list[str] = []
    with open_store(settings) as store:
        reader = RetryingReader(store)
        for datasource in datasources():
            try:
                answers += [(datasource, row) for row in reader.query(question(datasource, since))]
                readable.append(datasource)
            except QueryError as error:
                if error.status not in (400, 404):
                    raise
                notes.append(f"{datasource} can't be read: {error.detail}")
        shapes, without = read_shapes(reader.query, readable, since)
    notes += [NO_USAGE_RAW.format(datasource) for datasource in without]
    missing = missing_of(answers, books, now)
    return Found(missing=missing, shapes=shapes, books=books, readable=len(readable), notes=notes)


def _show_unread(shapes: list[Shape]) -> None:
    if shapes:
        err.print("\nUsage that was not read, or not completely, by its keys:\n", markup=False)
    for one in shapes:
        err.print(f"  {one}", markup=False, soft_wrap=True)


def _show(missing: list[Missing], since: datetime, books: Books, now: datetime, *, only_toml: bool) -> None:
    if not missing:
        err.print(f"every event since {since:%Y-%m-%d %H:%M} UTC has a full price")
        return
    if not only_toml:
        out.print(_table(missing, since))
        print_lines(["", "For your price book (`birdfeed prices check FILE` lists what is still to be filled in):", ""])
    print_lines(entries(missing, books, now))


def lacks(one: Missing) -> str:
    """What has no rate, for display."""
    return amounts(one.lacking) if one.lacking else "all" if not one.price_model else "a part that usage doesn't have"


def _table(missing: list[Missing], since: datetime) -> Table:
    table = Table(title=f"without a full price since {since:%Y-%m-%d %H:%M} UTC", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("status")
    table.add_column("events", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("no rate for", overflow="fold")
    table.add_column("last (UTC)")
    table.add_column("now")
    for one in missing:
        lacking = lacks(one)
        now = "has a price: reprice" if one.priced_now else "-"
        table.add_row(one.name, one.status, f"{one.events:,}", f"{one.tokens:,}", lacking, one.last, now)
    return table
