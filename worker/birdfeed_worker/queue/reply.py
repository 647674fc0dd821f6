"""Values as Redis answers them: bytes, and flat lists of names and values."""

from collections.abc import Iterator
from typing import Any


def as_text(value: bytes | str) -> str:
    """Text of what Redis answered."""
    return value.decode() if isinstance(value, bytes) else value


def pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Names and values of a flat list that alternates between them."""
    it = iter(flat)
    return zip(it, it, strict=True)


def number(value: bytes | None, default: int) -> int:
    """A count in a field; the default where it is missing or is not one."""
    return int(value) if value is not None and value.isdigit() else default
