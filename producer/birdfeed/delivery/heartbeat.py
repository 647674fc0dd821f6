"""Show operators that this process is alive, what it holds and what it dropped: a Redis key that lasts a minute."""

import os
import socket
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import orjson

from birdfeed._version import __version__
from birdfeed.delivery.sending import Sending
from birdfeed.errors import SpoolError
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters

#: Seconds between two beats.
BEAT_SECONDS: Final = 10.0


class Heartbeat:
    """The heartbeat of one pipeline."""

    def __init__(self, sending: Sending, spool: Spool | None, counters: Counters, clock: Callable[[], float]) -> None:
        self._sending = sending
        self._spool = spool
        self._counters = counters
        self._clock = clock
        self._next = float("-inf")
        self._id = uuid4().hex[:16]
        self._host = socket.gethostname()

    def beat(self, *, buffered: int, in_flight: int) -> None:
        """Write the heartbeat if the last was BEAT_SECONDS ago and Redis answers.

        A Redis that refuses events may still accept a heartbeat: then operators see the spool grow.
        """
        now = self._clock()
        if now < self._next or not self._sending.breaker.answered:
            return
        self._next = now + BEAT_SECONDS
        events, size, age = self._spooled()
        self._sending.heartbeat(
            f"{self._host}:{os.getpid()}:{self._id}",
            {
                "host": self._host,
                "pid": os.getpid(),
                "version": __version__,
                "buffered": buffered + in_flight,
                "spooled_events": events,
                "spooled_bytes": size,
                "spooled_oldest_seconds": age,
                "enqueued": self._counters.enqueued,
                "dropped": orjson.dumps(self._counters.dropped()).decode(),
            },
        )

    def _spooled(self) -> tuple[int, int, float]:
        """Events and bytes in the spool, which a host's processes share, and the age of its oldest batch in seconds."""
        if self._spool is None or not self._spool.exists():
            return 0, 0, 0.0
        try:
            totals = self._spool.totals()
            return totals.events, totals.bytes, round(self._spool.oldest_age(), 1)
        except SpoolError:
            return 0, 0, 0.0  # writing to the spool logs what is wrong with it
