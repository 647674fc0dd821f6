"""The clock and the sleep, passed in wherever time matters so that tests can turn it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


def _stoppable_sleep(stop: threading.Event) -> Callable[[float], bool]:
    def sleep(seconds: float) -> bool:
        return stop.wait(seconds)

    return sleep


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock, monotonic clock, and a sleep that ends early (and returns True) when `stop` is set."""

    stop: threading.Event = field(default_factory=threading.Event)
    time: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def sleep(self, seconds: float) -> bool:
        """Wait; True if told to stop meanwhile."""
        return _stoppable_sleep(self.stop)(seconds)
