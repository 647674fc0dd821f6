"""`birdfeed report`: cost and usage of models as tables and bars, JSON, CSV, or a page with charts."""

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.safety.private_files import write_private
from birdfeed_schemas.safety.untrusted import csv_cell
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.errors import QueryError
from birdfeed_worker.operations.reprice.run import RetryingReader
from birdfeed_worker.operations.unread import ADVICE, Shape, read_shapes
from birdfeed_worker.operations.unread import as_json as shape_json
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from birdfeed_cli.common.console import OK, PARTLY, USAGE, err, fail, out, print_json, warn
from birdfeed_cli.common.errors import WrongUse, wrong_value
from birdfeed_cli.common.files import file_errors
from birdfeed_cli.common.money import usd
from birdfeed_cli.common.options import unknown_value
from birdfeed_cli.common.store_access import NO_USAGE_RAW, open_store
from birdfeed_cli.report.query import DIMENSIONS, OTHERS, Line, Report, largest_named, read_report

NO_TABLES: Final = "none of birdfeed's data sources can be read; see `birdfeed tinybird check`"
#: Columns of the CSV.
COLUMNS: Final = (
    "dimension", "name", "requests", "errors", "error_rate", "cost_usd", "unpriced", "prompt_tokens",
    "completion_tokens", "p50_ms", "p95_ms",
)  # fmt: skip
_BARS: Final = "▁▂▃▄▅▆▇█"
_BAR_WIDTH: Final = 16
_NAME_WIDTH: Final = 40
#: Columns that narrow terminals don't show, in the order in which they are left out.
_LEAST_FIRST: Final = ("", "p50 ms", "out", "p95 ms", "tokens in", "unpriced", "failed")


def run_report(
    since: datetime,
    by: str,
    zone: str,
    *,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
    client_errors: bool = True,
) -> int:
    """Query Tinybird and print. Exit code 1 if a table could not be read."""
    if as_json and as_csv:
        raise WrongUse("--json and --csv can't be combined; choose one")
    until = datetime.now(UTC)
    dimensions = _dimensions(by)
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong_value("--timezone", f"{zone!r} is not a time zone; write UTC or Europe/Berlin") from None
    if since >= until:
        raise wrong_value("--since", f"{since:%Y-%m-%d %H:%M} UTC is not in the past")
    report, tables = read_stored(
        WorkerSettings.load(), since, until, dimensions, where, warn, client_errors=client_errors
    )
    if report is None:
        return fail(NO_TABLES, USAGE)
    if html is not None:
        from birdfeed_cli.report.html import page

        with file_errors(f"can't write {html}"):
            write_private(html, page(report))
        err.print(f"written to {html}", soft_wrap=True)
    if as_json:
        print_json(_as_json(report))
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(
            [COLUMNS, *(map(csv_cell, row) for row in _as_csv(report))]
        )
    elif html is None:
        _print(report)
    return OK if tables == len(datasources()) else PARTLY


def read_stored(
    settings: WorkerSettings,
    since: datetime,
    until: datetime,
    dimensions: Sequence[str],
    zone: ZoneInfo,
    tell: Callable[[str], None],
    *,
    client_errors: bool = True,
) -> tuple[Report | None, int]:
    """Query Tinybird; returns the report (None if no data source can be read), and how many data sources are in it.

    Args:
        settings: Where Tinybird is.
        since, until, dimensions, zone, client_errors: As for read_report.
        tell: Called with a sentence about each data source that is left out, completely or partly.

    Raises:
        ConfigurationError: The host or the read token is missing.
        TinybirdError: Tinybird doesn't answer, or refuses.
    """
    with open_store(settings) as store:
        tables = list(_tables(store, tell))
        if not tables:
            return None, 0
        query = RetryingReader(store).query
        report = read_report(query, tables, since, until, dimensions, zone, client_errors=client_errors)
        shapes, without = read_shapes(query, tables, since)
    for datasource in without:
        tell(NO_USAGE_RAW.format(datasource))
    return replace(report, unread=shapes), len(tables)


def _dimensions(text: str) -> list[str]:
    """The dimensions of --by; raises typer.BadParameter."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for one in found or [""]:
        if one not in DIMENSIONS:
            raise wrong_value("--by", unknown_value("a dimension", one, DIMENSIONS))
    return found


def _tables(store: Tinybird, tell: Callable[[str], None]) -> Iterator[str]:
    """The data sources that have the columns that reports need; reports those that don't."""
    for datasource in datasources():
        try:
            columns = store.columns(datasource)
        except QueryError as error:
            if error.status not in (400, 403, 404):
                raise
            tell(f"{datasource} is left out: {error.detail}")
            continue
        missing = {*DIMENSIONS, "event_id", "occurred_at"} - set(columns)
        if missing:
            lacks = ", ".join(sorted(missing)[:3])
            tell(f"{datasource} is left out: it has no {lacks} (see `birdfeed tinybird check`)")
        else:
            yield datasource


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "timezone": report.zone,
        "total": _line(report.total),
        "by": {dimension: [_line(line) for line in lines] for dimension, lines in report.by.items()},
        "every": report.every,
        "periods": [period.isoformat() for period in report.periods],
        "over_time": [{**asdict(one), "cost_usd": list(map(_usd, one.cost_usd))} for one in report.over_time],
        "usage": [shape_json(one) for one in report.unread],
    }


def _line(line: Line) -> dict[str, Any]:
    return {**asdict(line), "cost_usd": _usd(line.cost_usd), "error_rate": line.error_rate}


def _usd(cost: Decimal) -> str:
    """Exact text, because most readers of JSON read numbers as floats."""
    return format(cost, "f")


def _as_csv(report: Report) -> Iterator[list[Any]]:
    for dimension, lines in (("total", [report.total]), *report.by.items()):
        for line in lines:
            values = {**_line(line), "dimension": dimension}
            yield ["" if values[column] is None else values[column] for column in COLUMNS]


def _print(report: Report) -> None:
    total = report.total
    out.print(f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC", style="dim")
    out.print(
        Text.assemble(
            (f"{usd(total.cost_usd)}", "bold"),
            f"   {counted(total.requests, 'request')}   {total.error_rate:.1%} failed   ",
            f"{counted(total.prompt_tokens + total.completion_tokens, 'token')}   {total.unpriced:,} unpriced",
        )
    )
    if not total.requests:
        return
    costs = [sum((one.cost_usd[nth] for one in report.over_time), Decimal(0)) for nth in range(len(report.periods))]
    out.print(
        Text.assemble((f"cost by {report.every} ", "dim"), sparkline([float(cost) for cost in costs])), soft_wrap=True
    )
    for dimension, lines in report.by.items():
        out.print()
        out.print(_table(dimension, lines))
    if report.unread:
        out.print()
        out.print(_unread(report.unread))
        for status in dict.fromkeys(one.status for one in report.unread):
            out.print(f"{status}: {ADVICE[status]}", style="dim")


def _unread(shapes: Sequence[Shape]) -> Table:
    """Usage that was not read, not read completely, or not sent."""
    table = Table(title="usage that was not read, by its keys", title_justify="left", title_style="bold")
    table.add_column("status", no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    for name in ("such as", "keys", "not read"):
        table.add_column(name, overflow="fold")
    for one in shapes:
        table.add_row(
            one.status, f"{one.events:,}", f"{one.model} at {one.provider}", one.keys, ", ".join(one.not_read)
        )
    return table


def _table(dimension: str, lines: list[Line]) -> Table:
    table = Table(title=f"by {dimension}", title_justify="left", title_style="bold")
    names = [Text(line.name or "(none)") for line in lines]
    columns = _columns(lines)
    # Names are shown whole, up to _NAME_WIDTH; the least important columns are left out for that.
    name_width = min(_NAME_WIDTH, max([cell_len(dimension), *(name.cell_len for name in names)]))
    for column in _LEAST_FIRST:
        widths = [max([cell_len(key), *(cell.cell_len for cell in cells)]) for key, cells in columns.items()]
        if name_width + sum(widths) + 3 * len(widths) + 4 <= out.width:
            break
        del columns[column]
    table.add_column(dimension, overflow="fold", min_width=name_width, max_width=_NAME_WIDTH)
    for column in columns:
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=True)
    for row in zip(names, *columns.values(), strict=True):
        table.add_row(*row)
    return table


def _columns(lines: list[Line]) -> dict[str, list[Text]]:
    """Heading of a column → its cells; the bar's column has no heading."""
    largest = largest_named(lines)
    bars = [bar(float(line.cost_usd / largest) if largest and line.name != OTHERS else 0.0) for line in lines]
    return {
        "cost (USD)": [Text(usd(line.cost_usd)) for line in lines],
        "": [Text(one, style="cyan") for one in bars],
        "requests": [Text(f"{line.requests:,}") for line in lines],
        "failed": [Text(f"{line.error_rate:.1%}", style="red" if line.error_rate >= 0.05 else "") for line in lines],
        "tokens in": [Text(f"{line.prompt_tokens:,}") for line in lines],
        "out": [Text(f"{line.completion_tokens:,}") for line in lines],
        "p50 ms": [Text("" if line.p50_ms is None else f"{line.p50_ms:,.0f}") for line in lines],
        "p95 ms": [Text("" if line.p95_ms is None else f"{line.p95_ms:,.0f}") for line in lines],
        "unpriced": [Text(f"{line.unpriced:,}" if line.unpriced else "") for line in lines],
    }


def bar(share: float) -> str:
    """A bar of at most _BAR_WIDTH characters, in eighths."""
    eighths = round(share * _BAR_WIDTH * 8)
    rest = "▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else ""
    return "█" * (eighths // 8) + rest if eighths else "▏" if share > 0 else ""


def sparkline(values: list[float]) -> str:
    """One character per value; at most 96, for which neighbouring values are summed."""
    step = -(-len(values) // 96) or 1
    summed = [sum(values[nth : nth + step]) for nth in range(0, len(values), step)]
    largest = max(summed, default=0.0)
    return "".join(_BARS[min(7, int(value / largest * 8))] if largest and value else " " for value in summed)
