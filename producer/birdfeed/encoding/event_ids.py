"""Ids of events: UUIDv7s made ahead, because making one costs a tenth of a call of track_event.

A pool belongs to one pipeline, and a forked child makes a pipeline of its own, so that no two processes share an id.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from uuid_utils import UUID, uuid5, uuid7

#: Ids that are made ahead at first, and at most.
FIRST: Final = 64
MOST: Final = 10_000
#: Seconds after which they are made anew: an id begins with its time, by which the store finds it cheaply.
FRESH_SECONDS: Final = 60.0
#: Under which the ids of idempotency keys are made; any UUID would do, but it must never change.
_NAMESPACE: Final = UUID("0192f0c1-5a3e-7d44-9c1b-6a3f6f2f8b11")


class EventIds:
    """A pool of ids; `pop` takes the oldest and raises IndexError where there is none. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ids = deque[str]()
        self._wanted = FIRST
        self._short = False
        self.pop: Final = self._ids.popleft
        self._make()

    def missing(self) -> str:
        """An id, where the pool is empty; the next refill makes more."""
        self._short = True
        return str(uuid7())

    def refill(self) -> None:
        """Make ids ahead; for the flusher's thread."""
        if self._short:
            self._short = False
            self._wanted = min(MOST, self._wanted * 2)
        if self._clock() - self._made_at > FRESH_SECONDS:
            self._ids.clear()
        self._make()

    def _make(self) -> None:
        if not self._ids:
            self._made_at = self._clock()
        for _ in range(self._wanted - len(self._ids)):
            self._ids.append(str(uuid7()))


def id_of_key(event_type: str, key: object) -> str:
    """The id of an event by the caller's own key: the same for the same type and key, whoever makes it, and when."""
    return str(uuid5(_NAMESPACE, f"{event_type}\n{key}"))
