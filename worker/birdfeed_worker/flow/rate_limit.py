"""Rate limit: one limiter per destination for the whole pool, in Redis.

It enforces the request and byte rates, and holds the destination's state: backing off until a time (Retry-After, or a
growing wait), or paused because an operator has to fix it. When the backoff is over, one request probes, and the others
wait.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.flow.backoff import backoff, with_jitter
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import QueueScript, script

#: Failures in a row after which the wait grows no further, whatever its cap.
MOST_DOUBLED: Final = 34
#: Seconds between two reports of successes.
REPORT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates per data source for the whole pool, and the waits after failures, in seconds."""

    requests_per_second: float
    bytes_per_second: float
    retry_base: float
    retry_cap: float
    probe_seconds: float


class Admission(NamedTuple):
    """Whether a request may be sent: seconds to wait (0: now), and why.

    `at` is when it was admitted (epoch s by Redis's clock, as text); `probe` says that it is the single request that
    tests whether a destination is available again.
    """

    wait: float
    reason: str
    at: str
    probe: bool


@dataclass(slots=True)
class RateLimiter:
    """The limiter as one worker process sees it.

    Args:
        who: This process's name.
        draw: Source of jitter from 0 to 1.
    """

    connection: Redis
    keys: Keys
    who: str
    limits: Limits
    draw: Callable[[], float] = random.random
    _admit: QueueScript = field(init=False)
    _report: QueueScript = field(init=False)
    #: Destination → when a success was last reported (monotonic s).
    _reported: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._admit = script(self.connection, self.keys, "admit")
        self._report = script(self.connection, self.keys, "report")

    def admit(self, destination: str, size: int) -> Admission:
        """Ask whether a request of `size` bytes may be sent now."""
        limits = self.limits
        wait, reason, at, probe = self._admit(
            destination, limits.requests_per_second, limits.bytes_per_second, size, self._sender(), limits.probe_seconds
        )
        return Admission(float(wait), as_text(reason), as_text(at), bool(probe))

    def available(self, destination: str, admission: Admission) -> None:
        """Report that a request succeeded: always that of a probe, which ends the backoff; of others a few a second.

        When a request that is no probe was admitted, there was no backoff, and a later one doesn't end by its success.
        """
        now = time.monotonic()
        if not admission.probe and now < self._reported.get(destination, -math.inf) + REPORT_SECONDS:
            return
        self._say(destination, "available", [], "", admission.at)
        self._reported[destination] = now

    def inconclusive(self, destination: str) -> None:
        """Report that this thread's probe showed nothing about the destination, so that another request may probe."""
        self._say(destination, "inconclusive", [], "")

    def back_off(self, destination: str, asked: float | None, reason: str) -> float:
        """Report that the destination takes nothing; returns the seconds to wait: as it `asked`, or growing."""
        waits = self._waits() if asked is None else [with_jitter(asked, self.draw)]
        return self._say(destination, "backing_off", waits, reason)

    def paused(self, destination: str, reason: str) -> float:
        """Report that the destination is misconfigured; returns the seconds until the next probe."""
        return self._say(destination, "paused", self._waits(), reason)

    def _waits(self) -> list[float]:
        """The wait after each number of failures; the number is in Redis."""
        limits, drawn = self.limits, self.draw()
        return [
            backoff(n, base=limits.retry_base, cap=limits.retry_cap, draw=lambda: drawn) for n in range(1, MOST_DOUBLED)
        ]

    def _sender(self) -> str:
        # A thread sends one request at a time, so this identifies the request that probes.
        return f"{self.who}/{threading.get_ident()}"

    def _say(self, destination: str, outcome: str, waits: list[float], reason: str, admitted: str = "") -> float:
        return float(self._report(destination, outcome, orjson.dumps(waits), reason, admitted, self._sender()))
