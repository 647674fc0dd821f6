"""Times and time spans as they are typed and displayed. One grammar: 30s, 10m, 2h, 7d, 2w; a time is that long ago, or
ISO 8601."""

import re
from datetime import UTC, datetime, timedelta

from birdfeed_schemas.events import read_time

_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: How to write a time, for messages.
MOMENT = "write 30m, 24h, 7d or 2w (that long ago), or ISO 8601: 2026-01-31, 2026-01-31T12:00:00Z"


def age(seconds: float, parts: int = 2) -> str:
    """A time span for display, such as 2 h 5 min, with one or two parts."""
    whole = max(0, round(seconds))
    for unit, name, smaller, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest and parts > 1 else "")
    return f"{whole} s"


def seconds(text: str) -> float:
    """Read a time span as it is typed, in seconds: 30s, 10m, 2h, 1d, 2w.

    Raises:
        ValueError: It is not a span.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a length of time; write 30s, 10m, 2h, 7d or 2w")
    return float(int(found[1]) * _UNITS[found[2]])


def read_when(text: str, now: datetime | None = None) -> datetime:
    """Read a time (UTC): a time span ago, or ISO 8601.

    Raises:
        ValueError: It is neither; the message says what to write.
    """
    if _SPAN.fullmatch(text.strip().lower()):
        return (now or datetime.now(UTC)) - timedelta(seconds=seconds(text))
    try:
        when = read_time(text)
    except ValueError:
        when = None
    if when is None or text.strip().replace(".", "").isdigit():
        raise ValueError(f"{text!r} is not a time; {MOMENT}")
    return when
