"""Waiting with a deadline, the only way a test waits for anything."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks.
LOOK = 0.02


def eventually(look: Callable[[], T], *, what: str, within: float = 60.0) -> T:
    """The first true result of `look`. Patience costs nothing where all is well, and slow machines need it.

    Raises:
        AssertionError: The time is up; says what was waited for and the last result.
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
    """Let others run between two looks; never to wait for a thing to happen."""
    time.sleep(seconds)
