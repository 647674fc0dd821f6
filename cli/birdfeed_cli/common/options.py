"""Options that several commands share, so that they are read, and fail, in the same way everywhere."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Final

import typer

_SPAN: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: How to write a time, for messages.
_MOMENT: Final = "write 30m, 24h, 7d or 2w (that long ago), or ISO 8601: 2026-01-31, 2026-01-31T12:00:00Z"


def moment(text: str, now: datetime | None = None) -> datetime:
    """Read a time (UTC) as it is typed: a time span ago, or ISO 8601; raises typer.BadParameter."""
    if _SPAN.fullmatch(text.strip().lower()):
        try:
            return (now or datetime.now(UTC)) - timedelta(seconds=span(text))
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is before the year 1; {_MOMENT}") from None
    # Imported here: it loads pydantic, which few commands need.
    from birdfeed_schemas.events import read_time

    try:
        when = read_time(text)
    except ValueError:
        when = None
    if when is None or text.strip().replace(".", "").isdigit():
        raise typer.BadParameter(f"{text!r} is not a time; {_MOMENT}")
    return when.astimezone(UTC)


def span(text: str) -> float:
    """Read a time span as it is typed, in seconds: 30s, 10m, 2h, 1d, 2w; raises typer.BadParameter."""
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a length of time; write 30s, 10m, 2h, 7d or 2w")
    return float(int(found[1]) * _UNITS[found[2]])


def unknown_value(what: str, value: str, known: Iterable[str]) -> str:
    """The message about an unknown name, with the most similar one and all known ones."""
    names = sorted(known)
    close = get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{value!r} is not {what}; {hint}Known: {', '.join(names)}"


def pool_size(processes: int | None) -> int | None:
    """A number of worker processes as it is typed; raises typer.BadParameter."""
    if processes is None:
        return None
    from birdfeed_worker.settings import MAX_PROCESSES

    if not 1 <= processes <= MAX_PROCESSES:
        raise typer.BadParameter(f"a pool has from 1 to {MAX_PROCESSES:,} worker processes, not {processes}")
    return processes


def Processes(help: str) -> Any:  # noqa: A002, N802 - as Time
    """An option that takes a number of worker processes."""
    return typer.Option(callback=pool_size, help=help)


def Time(help: str) -> Any:  # noqa: A002, N802 - called where typer.Option is
    """An option that takes a time."""
    return typer.Option(parser=moment, metavar="TIME", help=help)


def Span(help: str) -> Any:  # noqa: A002, N802
    """An option that takes a time span."""
    return typer.Option(parser=span, metavar="SPAN", help=help)


#: Defaults of times and spans, as they would be typed: the option's parser reads them.
DAY: Final[Any] = "24h"
WEEK: Final[Any] = "7d"
HALF_MINUTE: Final[Any] = "30s"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Watch = Annotated[bool, typer.Option("--watch", help="Refresh every two seconds, until q or Ctrl-C.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many events.")]
Since = Annotated[datetime, Time("Start: 24h or 7d (that long ago), 2026-01-31 or 2026-01-31T12:00:00Z.")]
Until = Annotated[datetime | None, Time("End (exclusive), written like --since (default: now).")]
