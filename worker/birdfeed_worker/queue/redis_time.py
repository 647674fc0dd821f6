"""Redis's time: what two hosts compare is said in it, because their own clocks differ."""

import time
from typing import Final

from redis import Redis

#: Seconds for the answer above which a comparison of clocks says too little, if there has been a better one.
QUICK: Final = 1.0


class RedisTime:
    """A clock (epoch s) that is set by Redis's and runs on by this machine's monotonic one.

    Before it is first set it shows this machine's time.
    """

    def __init__(self) -> None:
        self._base = time.time() - time.monotonic()
        self._is_set = False

    def time(self) -> float:
        """Now, epoch seconds."""
        return self._base + time.monotonic()

    def set(self, connection: Redis) -> None:
        """Compare with Redis; raises RedisError."""
        before = time.monotonic()
        seconds, microseconds = connection.time()
        after = time.monotonic()
        if self._is_set and after - before > QUICK:
            return
        self._base = seconds + microseconds / 1e6 - (before + after) / 2
        self._is_set = True


def redis_time(connection: Redis) -> float:
    """Now by Redis's clock, epoch seconds."""
    seconds, microseconds = connection.time()
    return float(seconds + microseconds / 1e6)
