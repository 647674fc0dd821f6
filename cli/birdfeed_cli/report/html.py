"""The report as one HTML file with styles, tables and plots, without external files or scripts."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from birdfeed_schemas.safety.untrusted import html_text
from birdfeed_worker.operations.unread import ADVICE, Shape

from birdfeed_cli.common.money import usd
from birdfeed_cli.report.charts import Format, Layer, stacked_bars
from birdfeed_cli.report.query import OTHERS, Line, Report, Series, largest_named

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f7f7f5; --card: #ffffff; --text: #1d2327; --dim: #626b73; --line: #e2e3df;
  --bad: #b3261e; --c0: #2b6cb0; --c1: #d97706; --c2: #0f9d8a; --c3: #9f4fb5; --c4: #b8a100; --c5: #d6457f;
  --c6: #5f8f2f; --c7: #8b939b; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2226; --text: #e6e8ea; --dim: #9aa4ad;
  --line: #333a40; --bad: #ff8a80; --c0: #63a4f0; --c1: #f3a64a; --c2: #3fc9b5; --c3: #c98be0; --c4: #d9c645;
  --c5: #f284ae; --c6: #9bc766; --c7: #78818a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 20px 48px; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 15px; margin: 0 0 10px; font-weight: 600; }
p.when { color: var(--dim); margin: 4px 0 20px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px;
  margin: 0 0 16px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 0 0 16px; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
dt { color: var(--dim); font-size: 13px; } dd { margin: 2px 0 0; font-size: 20px; font-weight: 600;
  font-variant-numeric: tabular-nums; white-space: nowrap; } dd small { display: block; font-size: 13px;
  font-weight: 400; color: var(--dim); }
svg { display: block; width: 100%; height: auto; }
.tick { fill: var(--dim); font-size: 12px; } .grid { stroke: var(--line); } .axis { stroke: var(--dim); }
.hover { fill: transparent; } g:hover .hover { fill: var(--line); fill-opacity: .55; }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 10px 0 0; padding: 0;
  font-size: 13px; }
ul.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; } th { color: var(--dim); font-weight: 500; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; max-width: 280px; overflow: hidden;
  text-overflow: ellipsis; }
td.bar { width: 22%; min-width: 110px; padding-right: 0; }
td.bar span { display: block; height: 11px; border-radius: 2px; background: var(--c0); min-width: 1px; }
.bad { color: var(--bad); } tr.others td { color: var(--dim); }
footer { color: var(--dim); font-size: 13px; }
@media (max-width: 640px) { .tick { font-size: 19px; } body { padding: 20px 12px; } }
@media print { body { background: none; } section, dl div { break-inside: avoid; } }
"""
#: Shares of failed requests from here on are highlighted.
_MANY_ERRORS: Final = 0.05


def page(report: Report) -> str:
    """The whole file."""
    first = next(iter(report.by))
    parts = [_tiles(report.total)]
    if report.total.requests:
        parts += [_cost_plot(report, first), _request_plot(report)]
        parts += [_table(dimension, lines) for dimension, lines in report.by.items()]
        parts += [_unread(report.unread)] if report.unread else []
    else:
        parts.append("<section>No event in this time.</section>")
    since, until = (moment.astimezone(report.periods[0].tzinfo) for moment in (report.since, report.until))
    when = f"{since:%a %Y-%m-%d %H:%M} to {until:%a %Y-%m-%d %H:%M}, {report.zone}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing may be loaded, whatever the names of models and users contain.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>birdfeed report, {html_text(when)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>birdfeed report</h1>\n<p class="when">{html_text(when)}</p>\n'
        + "\n".join(parts)
        + "\n<footer>Each event "
        "is counted once, as it was priced last. Latencies: successful requests of known duration, without cache hits."
        "</footer>\n</body>\n</html>\n"
    )


def _tiles(total: Line) -> str:
    bad = ' class="bad"' if total.error_rate >= _MANY_ERRORS else ""
    tiles = (
        ("cost", f"<dd>{usd(total.cost_usd)}</dd>"),
        ("requests", f"<dd>{short(total.requests)}</dd>"),
        ("failed", f"<dd{bad}>{total.error_rate:.1%}</dd>"),
        ("tokens in", f"<dd>{short(total.prompt_tokens)} <small>out {short(total.completion_tokens)}</small></dd>"),
        ("latency p50", f"<dd>{_milliseconds(total.p50_ms)} <small>p95 {_milliseconds(total.p95_ms)}</small></dd>"),
        ("unpriced", f"<dd>{total.unpriced / total.requests if total.requests else 0:.1%}</dd>"),
    )
    return "<dl>" + "".join(f"<div><dt>{name}</dt>{value}</div>" for name, value in tiles) + "</dl>"


def _cost_plot(report: Report, by: str) -> str:
    totals = [usd(sum(one.cost_usd, Decimal(0))) for one in report.over_time]
    layers = cost_layers(report.over_time)
    return _plot(report, f"Cost by {report.every} and {by}", layers, totals, usd_of)


def _request_plot(report: Report) -> str:
    count = range(len(report.periods))
    failed = [float(sum(one.errors[nth] for one in report.over_time)) for nth in count]
    good = [float(sum(one.requests[nth] - one.errors[nth] for one in report.over_time)) for nth in count]
    layers = [("successful", good, "var(--c0)"), ("failed", failed, "var(--bad)")]
    totals = [f"{sum(map(int, values)):,}" for _, values, _ in layers]
    return _plot(report, f"Requests by {report.every}", layers, totals, lambda value: short(round(value)))


def _plot(report: Report, title: str, layers: Sequence[Layer], totals: Sequence[str], text: Format) -> str:
    plot = stacked_bars(title, report.periods, report.every, layers, text)
    legend = "".join(
        f'<li><i style="background:{colour}"></i>{html_text(name or "(none)")} {total}</li>'
        for (name, _, colour), total in zip(layers, totals, strict=True)
    )
    return (
        f'<section><h2>{html_text(title)}</h2><div class="wide">{plot}</div><ul class="legend">{legend}</ul></section>'
    )


def cost_layers(series: Sequence[Series]) -> list[Layer]:
    """Costs over time, for a plot whose values usd_of formats."""
    return [
        (one.name, [float(cost) for cost in one.cost_usd], f"var(--{colour(series, nth)})")
        for nth, one in enumerate(series)
    ]


def usd_of(value: float) -> str:
    """A plotted cost for display."""
    return usd(Decimal(repr(value)))


def colour(series: Sequence[Series], nth: int) -> str:
    """The name of a line's colour, c0 to c7; the line for all others gets the last."""
    return "c7" if series[nth].name == OTHERS else f"c{nth % 7}"


def _table(dimension: str, lines: Sequence[Line]) -> str:
    largest = largest_named(lines)
    heads = (dimension, "cost", "", "requests", "failed", "tokens in", "tokens out", "p50", "p95", "unpriced")
    head = "".join(f'<th scope="col">{html_text(one)}</th>' for one in heads)
    body = "".join(_row(line, float(line.cost_usd / largest) if largest else 0.0) for line in lines)
    table = f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
    return f"<section><h2>By {html_text(dimension)}</h2>{table}</section>"


def _row(line: Line, share: float) -> str:
    name = html_text(line.name or "(none)")
    bar = f'<span style="width:{share * 100:.1f}%"></span>' if share and line.name != OTHERS else ""
    bad = ' class="bad"' if line.error_rate >= _MANY_ERRORS else ""
    others = ' class="others"' if line.name == OTHERS else ""
    cells = (
        f'<td title="{name}">{name}</td><td title="{line.cost_usd:f} USD">{usd(line.cost_usd)}</td>'
        f'<td class="bar">{bar}</td>'
        f"<td>{line.requests:,}</td><td{bad}>{line.error_rate:.1%}</td><td>{short(line.prompt_tokens)}</td>"
        f"<td>{short(line.completion_tokens)}</td><td>{_milliseconds(line.p50_ms)}</td>"
        f"<td>{_milliseconds(line.p95_ms)}</td><td>{f'{line.unpriced:,}' if line.unpriced else ''}</td>"
    )
    return f"<tr{others}>{cells}</tr>"


def _unread(shapes: Sequence[Shape]) -> str:
    head = "".join(f'<th scope="col">{one}</th>' for one in ("status", "events", "such as", "keys", "not read", "fix"))
    body = ""
    for one in shapes:
        what = f"{one.model} at {one.provider}", one.keys, ", ".join(one.not_read), ADVICE[one.status]
        cells = "".join(f"<td>{html_text(cell)}</td>" for cell in what)
        body += f"<tr><td>{html_text(one.status)}</td><td>{one.events:,}</td>{cells}</tr>"
    return f'<section><h2>Usage not read</h2><div class="wide"><table><tr>{head}</tr>{body}</table></div></section>'


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:,.1f} s" if value >= 1000 else f"{value:,.0f} ms"


def short(number: int) -> str:
    """A number for display: 1,234 as it is; from 100,000 on with k, M or G and three significant digits."""
    if number < 100_000:
        return f"{number:,}"
    value, power = float(number), 0
    while value >= 999.5 and power < 4:
        value, power = value / 1000, power + 1
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}{' kMGT'[power]}"
