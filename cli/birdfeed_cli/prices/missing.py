"""`birdfeed prices missing`: models whose rows were written without a price, or without a part of it."""

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


def run_missing(since: datetime, *, only_toml: bool, json: bool) -> int:
    """Print them, most events first. Exit code 1 if there are any."""
    now = datetime.now(UTC)
    settings = WorkerSettings.load()
    books = book_source_of(settings).current()
    answers: list[tuple[str, dict[str, Any]]] = []
    tables = datasources()
    readable: list[str] = []
    with open_store(settings) as store:
        reader = RetryingReader(store)
        for datasource in tables:
            try:
                answers += [(datasource, row) for row in reader.query(question(datasource, since))]
                readable.append(datasource)
            except QueryError as error:
                if error.status not in (400, 404):
                    raise
                warn(f"{datasource} can't be read: {error.detail}")
        shapes, without = read_shapes(reader.query, readable, since)
    for datasource in without:
        warn(NO_USAGE_RAW.format(datasource))
    missing = missing_of(answers, books, now)
    if json:
        models = [as_json(one) for one in missing]
        print_json({"since": since.isoformat(), "models": models, "usage": [shape_json(one) for one in shapes]})
    else:
        _show(missing, since, books, now, only_toml=only_toml)
        if not only_toml:
            _show_unread(shapes)
    return PARTLY if missing or len(readable) < len(tables) else OK


def _show_unread(shapes: list[Shape]) -> None:
    if shapes:
        err.print("\nUsage that was not read, or not wholly, by its keys:\n", markup=False)
    for one in shapes:
        err.print(f"  {one}", markup=False, soft_wrap=True)


def _show(missing: list[Missing], since: datetime, books: Books, now: datetime, *, only_toml: bool) -> None:
    if not missing:
        err.print(f"every event since {since:%Y-%m-%d %H:%M} UTC has its price")
        return
    if not only_toml:
        out.print(_table(missing, since))
        print_lines(["", "For your price book (birdfeed prices check FILE lists what is still to fill in):", ""])
    print_lines(entries(missing, books, now))


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
        lacking = amounts(one.lacking) if one.lacking else "all" if not one.price_model else "a part not in usage"
        now = "has a price: reprice" if one.priced_now else "-"
        table.add_row(one.name, one.status, f"{one.events:,}", f"{one.tokens:,}", lacking, one.last, now)
    return table
