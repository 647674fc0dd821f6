"""Times as people give them on the command line."""

import re
from datetime import UTC, datetime, timedelta

from birdfeed_schemas.events import read_time

_AGO = re.compile(r"(\d{1,5})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_when(text: str, now: datetime | None = None) -> datetime:
    """A moment (UTC): 7d, 24h, 30m or 2w ago, or ISO 8601: 2026-01-31, 2026-01-31T12:00:00Z.

    Raises:
        ValueError: It is neither; its text is what was given.
    """
    now = now or datetime.now(UTC)
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        when = read_time(text)
    except ValueError:
        raise ValueError(text) from None
    if when is None or text.strip().replace(".", "").isdigit():
        raise ValueError(text)
    return when
