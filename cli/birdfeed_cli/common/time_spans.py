"""Spans of time, as people read and write them."""

import re

_SPAN = re.compile(r"(\d{1,6})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def age(seconds: float, parts: int = 2) -> str:
    """A span for people, such as 2 h 5 min; one or two parts."""
    whole = max(0, round(seconds))
    for unit, name, smaller, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest and parts > 1 else "")
    return f"{whole} s"


def seconds(text: str) -> float:
    """A span as it is typed: 30s, 10m, 2h, 1d.

    Raises:
        ValueError: It is none.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no span of time; write 30s, 10m, 2h or 1d")
    return float(int(found[1]) * _UNITS[found[2]])
