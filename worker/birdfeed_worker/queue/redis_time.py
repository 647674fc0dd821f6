"""Redis's time: times that are compared between hosts are in it, because the hosts' clocks differ."""

import time
from typing import Final

from redis import Redis

#: If Redis's answer takes longer than this many seconds, the comparison is too inexact, unless it is the first.
QUICK: Final = 1.0


class RedisTime:
    """A clock (epoch s) that is set to Redis's time and advances with this machine's monotonic clock.

    Before it is first set, it shows this machine's time.
    """

    def __init__(self) -> None:
        self._base = time.time() - time.monotonic()
        self._is_set = False

    def time(self) -> float:
        """The current time, epoch seconds."""
        return self._base + time.monotonic()

    def set(self, connection: Redis) -> None:
        """Set it to Redis's time; raises RedisError."""
        before = time.monotonic()
        seconds, microseconds = connection.time()
        after = time.monotonic()
        if self._is_set and after - before > QUICK:
            return
        self._base = seconds + microseconds / 1e6 - (before + after) / 2
        self._is_set = True


def redis_time(connection: Redis) -> float:
    """The current time by Redis's clock, epoch seconds."""
    seconds, microseconds = connection.time()
    return float(seconds + microseconds / 1e6)
