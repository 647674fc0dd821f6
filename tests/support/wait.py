"""Waiting with a deadline, the only way a test waits for anything."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two tries.
LOOK = 0.02


def eventually(look: Callable[[], T], *, what: str, within: float = 60.0) -> T:
    """The first true result of `look`. A long timeout costs nothing in a passing test, and slow machines need it.

    Raises:
        AssertionError: The time is up; the message has what was waited for and the last result.
    """
    deadline = time.monotonic() + within
    while True:
        result = look()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last look: {result!r})")
        pause(LOOK)


def pause(seconds: float) -> None:
    """Let other processes run between two tries; never used to wait for an event."""
    time.sleep(seconds)
