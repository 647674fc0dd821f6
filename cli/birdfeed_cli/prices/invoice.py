"""`birdfeed prices compare-invoice`: compare a provider's bill with the stored rows, by day and model."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.errors import ConfigurationError, QueryError
from birdfeed_worker.operations.invoice.bill import Bill, BillError
from birdfeed_worker.operations.invoice.compare import Comparison, Line, as_json, compare
from birdfeed_worker.operations.invoice.formats import MAX_BYTES, read_bill
from birdfeed_worker.operations.invoice.stored import Booked, booked_of, dead_of, question, windows
from birdfeed_worker.operations.reprice.run import RetryingReader
from birdfeed_worker.pricing.price.money import plain
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of
from redis.exceptions import RedisError
from rich.progress import Progress
from rich.table import Table

from birdfeed_cli.common.console import OK, PARTLY, USAGE, err, fail, out, print_json, print_lines, warn
from birdfeed_cli.common.errors import Unreachable
from birdfeed_cli.common.files import open_input
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.store_access import open_store


def run_compare_invoice(file: str, provider: str | None, tolerance: float, *, as_json: bool) -> int:
    """Compare and print. Exit code 1 if a line of the bill and the rows differ, or a table can't be read."""
    share = Decimal(repr(tolerance)) / 100
    try:
        with open_input(file) as stream:
            bill = read_bill(stream.read(MAX_BYTES + 1))
    except BillError as error:
        return fail(f"{file}: {error}", USAGE)
    whose = bill.provider if provider is None else provider
    booked, refused = _stored(bill, as_json=as_json)
    dead = _dead(bill)
    compared = compare(bill, [*booked, *(dead or ())], whose)
    differing = compared.differing(share)
    if as_json:
        print_json(_json(file, bill, compared, whose, share, dead_read=dead is not None))
    else:
        _show(bill, compared, differing, whose, share)
    return PARTLY if differing or refused else OK


def _stored(bill: Bill, *, as_json: bool) -> tuple[list[Booked], int]:
    """What the tables have for the days of a bill, and how many tables can't be read."""
    first, last = bill.lines[0].day, bill.lines[-1].day
    parts = list(windows(first, last))
    booked: list[Booked] = []
    refused = 0
    tables = datasources()
    with open_store(WorkerSettings.load()) as store, Progress(console=err, transient=True, disable=as_json) as progress:
        reader = RetryingReader(store)
        task = progress.add_task("reading the store", total=len(parts) * len(tables))
        for datasource in tables:
            try:
                for start, end in parts:
                    booked += booked_of(reader.query(question(datasource, start, end)))
                    progress.advance(task)
            except QueryError as error:
                if error.status not in (400, 404):
                    raise
                refused += 1
                warn(f"{datasource} can't be read: {error.detail}")
    return booked, refused


def _dead(bill: Bill) -> list[Booked] | None:
    """Dead events of the days of a bill; None if Redis can't be asked."""
    try:
        redis, keys = open_redis()
        books = book_source_of(WorkerSettings.load()).current()
        return list(dead_of(dead_letters_of(redis, keys), books, bill.lines[0].day, bill.lines[-1].day))
    except (Unreachable, ConfigurationError, RedisError) as error:
        warn(f"dead events are not counted: {error}")
        return None


def _show(bill: Bill, compared: Comparison, differing: Sequence[Line], whose: str, share: Decimal) -> None:
    first, last = bill.lines[0].day, bill.lines[-1].day
    out.print(f"{whose or 'all providers'}, {first} to {last} (UTC)", style="dim")
    if compared.has_costs:
        print_lines([f"billed {plain(compared.billed)} USD, booked {plain(compared.booked)} USD"])
    agreeing = len(compared.lines) - len(differing)
    print_lines([f"{agreeing:,} of {len(compared.lines):,} lines agree within {plain(share * 100)} %"])
    if differing:
        out.print(_table(differing, by_cost=compared.has_costs))
        for line in differing:
            print_lines(["", f"{line.day} {line.model or '(all models)'}"])
            print_lines(f"  {reason}" for reason in line.why(share))
    if compared.left_out:
        others = ", ".join(f"{events:,} of {name}" for name, events in sorted(compared.left_out.items()))
        print_lines(["", f"not compared, because they are booked for another provider: {others}"])
    if bill.passed_over:
        warn(f"{counted(bill.passed_over, 'line')} of the file without cost, tokens or requests: not compared")


def _table(lines: Sequence[Line], *, by_cost: bool) -> Table:
    table = Table()
    table.add_column("day")
    table.add_column("model", overflow="fold")
    for name in ("billed USD", "booked USD", "difference") if by_cost else ("billed tokens", "booked tokens", "events"):
        table.add_column(name, justify="right")
    for line in lines:
        billed = line.billed
        if by_cost:
            difference = line.cost if line.difference is None else line.difference
            cost = "-" if billed is None or billed.cost is None else plain(billed.cost)
            cells = (cost, plain(line.cost), f"{'+' if difference >= 0 else ''}{plain(difference)}")
        else:
            tokens = None if billed is None else billed.all_tokens
            cells = ("-" if tokens is None else f"{tokens:,}", f"{line.prompt + line.completion:,}", f"{line.events:,}")
        table.add_row(str(line.day), line.model or "(all models)", *cells)
    return table


def _json(
    file: str, bill: Bill, compared: Comparison, whose: str, share: Decimal, *, dead_read: bool
) -> dict[str, Any]:
    lines = [as_json(line, share, by_cost=compared.has_costs) for line in compared.lines]
    return {
        "file": file,
        "provider": whose,
        "first_day": bill.lines[0].day.isoformat(),
        "last_day": bill.lines[-1].day.isoformat(),
        "tolerance": float(share),
        "agrees": all(line["agrees"] for line in lines),
        "billed_cost": plain(compared.billed) if compared.has_costs else None,
        "booked_cost": plain(compared.booked),
        "dead_events_counted": dead_read,
        "lines": lines,
        "left_out": dict(compared.left_out),
        "passed_over": bill.passed_over,
    }
