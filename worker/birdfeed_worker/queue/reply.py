"""Values as Redis answers them: bytes, and flat lists of names and values. Whoever can write to Redis may have put
anything there, so what can't be read as it should be reads as missing, and nothing here raises for it."""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Final, TypeAlias

#: A value of a hash, as the client's types have it.
Raw: TypeAlias = bytes | str | None

#: Characters kept of a name that somebody else may have made up.
MAX_NAME: Final = 200
#: Times (epoch s) before which nothing was enqueued, and after which nothing is yet: 2001 and 2096.
EARLIEST, LATEST = 1e9, 4e9


def as_text(value: bytes | str) -> str:
    """Text of what Redis answered; bytes that are no UTF-8 are shown as such."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def error_code(error: Exception) -> str:
    """The word by which an error that Redis answered begins; in a pipeline, redis-py puts its own words before it.

    There is none where redis-py has a class for it, which says the same.
    """
    return str(error).rpartition(" of pipeline caused error: ")[2].partition(" ")[0]


def as_name(value: Raw, default: str) -> str:
    """A name in a field, fit for a line of a log; the default where it is missing."""
    text = as_text(value or b"")[:MAX_NAME]
    if text.isprintable():
        return text or default
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Names and values of a flat list that alternates between them."""
    it = iter(flat)
    return zip(it, it, strict=True)


def number(value: Raw, default: int, most: int = 10**15) -> int:
    """A count in a field; the default where it is missing, is not one, or is more than `most`."""
    if value is None or len(value) > 15 or not (value.isascii() and value.isdigit()):
        return default
    return int(value) if int(value) <= most else default


def whole(value: bytes | str | int) -> int:
    """A count that may be below 0, as the ledger's are; 0 where it is not one."""
    try:
        return int(value)
    except ValueError:
        return 0


def real(value: Raw, low: float, high: float) -> float | None:
    """A number in a field, of that range; None where it is missing or is not one."""
    try:
        found = float(value or b"")
    except ValueError:
        return None
    return found if isfinite(found) and low <= found <= high else None


def epoch(value: Raw) -> float | None:
    """A time (epoch s) in a field; None where it is missing or is not one."""
    return real(value, EARLIEST, LATEST)
