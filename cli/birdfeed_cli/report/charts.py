"""The plots of the report's page and of the console: inline SVG, without scripts or external files.

Colours are CSS variables of the page."""

from collections.abc import Callable, Sequence
from datetime import datetime
from math import floor, log10
from typing import Final

from birdfeed_schemas.safety.untrusted import html_text

#: The plot's size in its own units; the page scales it.
WIDTH: Final = 960
HEIGHT: Final = 260
_LEFT: Final = 64
_RIGHT: Final = 8
_TOP: Final = 10
_BOTTOM: Final = 26
_INNER: Final = WIDTH - _LEFT - _RIGHT
#: About this many labels fit below the axis.
_LABELS: Final = 9
#: Minutes between labels, for periods of minutes.
_EACH_MINUTES: Final = (5, 10, 15, 30, 60, 120, 180, 240)
Format = Callable[[float], str]
Layer = tuple[str, Sequence[float], str]


def stacked_bars(title: str, periods: Sequence[datetime], every: str, layers: Sequence[Layer], text: Format) -> str:
    """Stacked bars over time.

    Args:
        title: The text for screen readers.
        periods: Starts of the hours or days.
        every: hour, day, or minutes (`minute`, `5 minutes`).
        layers: Name, value for each period, and CSS colour; from the bottom up.
        text: Formats a value for display.
    """
    totals = [sum(values[nth] for _, values, _ in layers) for nth in range(len(periods))]
    top, step = scale(max(totals, default=0.0))
    height = HEIGHT - _TOP - _BOTTOM
    slot = _INNER / max(1, len(periods))
    width = max(1.0, slot - min(4.0, slot * 0.25))
    parts = [_grid(top, step, text)]
    for nth, period in enumerate(periods):
        x = _LEFT + nth * slot + (slot - width) / 2
        y = float(HEIGHT - _BOTTOM)
        bars = []
        for _, values, colour in layers:
            tall = values[nth] / top * height
            if tall > 0:
                y -= tall
                bars.append(f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{tall:.2f}" fill="{colour}"/>')
        said = [f"{_when(period, every, long=True)}: {text(totals[nth])}"]
        said += [f"{name or '(none)'}: {text(values[nth])}" for name, values, _ in reversed(layers) if values[nth]]
        parts.append(_slot(nth, slot, "".join(bars), said))
    return _svg(title, [*parts, _labels(periods, every, slot)])


def lines(title: str, periods: Sequence[datetime], every: str, layers: Sequence[Layer], text: Format) -> str:
    """Lines over time, the first one in front; the arguments are as for stacked_bars.

    A layer with fewer values than periods ends earlier.
    """
    top, step = scale(max((max(values, default=0.0) for _, values, _ in layers), default=0.0))
    height = HEIGHT - _TOP - _BOTTOM
    slot = _INNER / max(1, len(periods))
    parts = [_grid(top, step, text)]
    for _, values, colour in reversed(layers):
        points = " ".join(
            f"{_LEFT + (nth + 0.5) * slot:.1f},{HEIGHT - _BOTTOM - value / top * height:.2f}"
            for nth, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" stroke="{colour}" class="line"/>')
    for nth, period in enumerate(periods):
        said = [_when(period, every, long=True)]
        said += [f"{name}: {text(values[nth])}" for name, values, _ in layers if nth < len(values)]
        parts.append(_slot(nth, slot, "", said))
    return _svg(title, [*parts, _labels(periods, every, slot)])


def _slot(nth: int, slot: float, drawn: str, said: Sequence[str]) -> str:
    """One period: all of its area has the tooltip, not only what is drawn."""
    height = HEIGHT - _TOP - _BOTTOM
    hover = f'<rect x="{_LEFT + nth * slot:.1f}" y="{_TOP}" width="{slot:.1f}" height="{height}" class="hover"/>'
    return f"<g>{hover}{drawn}<title>{'&#10;'.join(map(html_text, said))}</title></g>"


def _svg(title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(title)}">{"".join(parts)}</svg>'


def scale(largest: float) -> tuple[float, float]:
    """The top of an axis for values up to `largest`, and the step between its lines: 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return 1.0, 1.0
    rough = largest / 4
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    lines = -(-largest // step)
    return lines * step, step


def _grid(top: float, step: float, text: Format) -> str:
    parts = []
    height = HEIGHT - _TOP - _BOTTOM
    for nth in range(round(top / step) + 1):
        y = HEIGHT - _BOTTOM - nth * step / top * height
        kind = "axis" if nth == 0 else "grid"
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>')
        label = html_text(text(nth * step))
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="tick" text-anchor="end">{label}</text>')
    return "".join(parts)


def _labels(periods: Sequence[datetime], every: str, slot: float) -> str:
    each = max(1, -(-len(periods) // _LABELS))
    if every == "hour":
        each = next((hours for hours in (1, 2, 3, 4, 6, 8, 12, 24) if hours >= each), 24)
    minutes = every.endswith(("minute", "minutes"))
    if minutes:
        wanted = each * (periods[1] - periods[0]).total_seconds() / 60 if len(periods) > 1 else 1
        each = next((some for some in _EACH_MINUTES if some >= wanted), _EACH_MINUTES[-1])
    parts = []
    for nth, period in enumerate(periods):
        number = period.hour * 60 + period.minute if minutes else period.hour if every == "hour" else nth
        if number % each == 0:
            x = _LEFT + (nth + 0.5) * slot
            label = html_text(_when(period, every))
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" class="tick" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _when(period: datetime, every: str, *, long: bool = False) -> str:
    """A period's label: short below the axis, with the day at midnight."""
    if every == "day":
        return period.strftime("%a %Y-%m-%d" if long else "%b %d")
    if long:
        return period.strftime("%a %Y-%m-%d %H:%M")
    return period.strftime("%b %d" if period.hour == period.minute == 0 else "%H:%M")
