"""Options that several commands share, so that they are read, and fail, in the same way everywhere."""

from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any, Final

import typer


def moment(text: str) -> datetime:
    """Read a time (UTC) as it is typed; raises typer.BadParameter, whose message says what to write."""
    from birdfeed_cli.common.time_spans import read_when

    try:
        return read_when(text).astimezone(UTC)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def span(text: str) -> float:
    """Read a time span as it is typed, such as 10m, in seconds; raises typer.BadParameter."""
    from birdfeed_cli.common.time_spans import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def unknown_value(what: str, value: str, known: Iterable[str]) -> str:
    """The message about an unknown name, with the most similar one and all known ones."""
    names = sorted(known)
    close = get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{value!r} is not {what}; {hint}Known: {', '.join(names)}"


def at_least_one(processes: int | None) -> int | None:
    """A number of worker processes as it is typed; raises typer.BadParameter."""
    if processes is not None and processes < 1:
        raise typer.BadParameter(f"without a worker process no event would be written; give 1 or more, not {processes}")
    return processes


def Processes(help: str) -> Any:  # noqa: A002, N802 - as Time
    """An option that takes a number of worker processes."""
    return typer.Option(callback=at_least_one, help=help)


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
