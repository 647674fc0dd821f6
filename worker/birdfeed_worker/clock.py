"""The clock and the sleep. They are passed in wherever time matters, so that tests can control it."""

import threading
import time as real
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock (epoch s), monotonic clock (s), and a sleep that ends early when `stop` is set."""

    stop: threading.Event = field(default_factory=threading.Event)
    time: Callable[[], float] = real.time
    monotonic: Callable[[], float] = real.monotonic

    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def sleep(self, seconds: float) -> bool:
        """Wait; returns True if told to stop in the meantime."""
        return self.stop.wait(seconds)
