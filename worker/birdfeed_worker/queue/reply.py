"""Read values as Redis returns them: bytes, and flat lists of names and values. Any client of Redis may have written
anything, so an invalid value is read as missing, and nothing here raises for it."""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Final, TypeAlias

import orjson

#: A value of a hash, in the client's types.
Raw: TypeAlias = bytes | str | None

#: Characters kept of a name that may not be from birdfeed.
MAX_NAME: Final = 200
#: Times (epoch s) are valid only between these: 2001 and 2096.
EARLIEST, LATEST = 1e9, 4e9


def as_text(value: bytes | str) -> str:
    """Redis's answer as text; bytes that are not UTF-8 are escaped."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def error_code(error: Exception) -> str:
    """The word by which an error that Redis answered begins; in a pipeline, redis-py puts its own words before it.

    There is none where redis-py has a class for it, which says the same.
    """
    return str(error).rpartition(" of pipeline caused error: ")[2].partition(" ")[0]


def as_name(value: Raw, default: str) -> str:
    """A name in a field, safe for a log line; the default if it is missing."""
    text = as_text(value or b"")[:MAX_NAME]
    if text.isprintable():
        return text or default
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def json_object(value: Raw) -> dict[str, Any]:
    """An object of JSON in a field; empty if it is missing, or another program wrote something else there."""
    try:
        found = orjson.loads(value or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def data_of(line: bytes) -> dict[str, Any]:
    """The data in an event's line; empty if the line can't be read."""
    data = json_object(line).get("data")
    return data if isinstance(data, dict) else {}


def pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The (name, value) pairs of a flat list that alternates between them."""
    it = iter(flat)
    return zip(it, it, strict=True)


def number(value: Raw, default: int, most: int = 10**15) -> int:
    """A count in a field; the default if it is missing, not a count, or more than `most`."""
    if value is None or len(value) > 15 or not (value.isascii() and value.isdigit()):
        return default
    return int(value) if int(value) <= most else default


def whole(value: bytes | str | int) -> int:
    """An integer that may be below 0, as the ledger's counts may; 0 if it is not an integer."""
    try:
        return int(value)
    except ValueError:
        return 0


def real(value: Raw, low: float, high: float) -> float | None:
    """A number in a field, in that range; None if it is missing or not such a number."""
    try:
        found = float(value or b"")
    except ValueError:
        return None
    return found if isfinite(found) and low <= found <= high else None


def epoch(value: Raw) -> float | None:
    """A time (epoch s) in a field; None if it is missing or not a valid time."""
    return real(value, EARLIEST, LATEST)
