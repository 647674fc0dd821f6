"""Presence: a worker's entry in Redis, which `birdfeed status`, `rq info` and rq-dashboard read."""

import os
import platform
import socket
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from typing import Final
from uuid import uuid4

from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.redis_time import RedisTime
from birdfeed_worker.queue.scripts import script

#: Seconds after its last heartbeat after which a worker's entry expires.
ENTRY_SECONDS: Final = 90


class Presence:
    """One worker's entry. Each heartbeat also compares this machine's clock with Redis's.

    Args:
        connection: Redis; heartbeats come from more than one thread.
        clock: Set by each heartbeat to Redis's time.
    """

    def __init__(self, connection: Redis, keys: Keys, name: str, clock: RedisTime) -> None:
        self._connection = connection
        self._keys = keys
        self._name = name
        self._clock = clock
        self._beat = script(connection, keys, "beat")
        self._born = ""
        self._done = self._dead = 0
        self._lock = threading.Lock()
        #: The worker's state, in rq's words.
        self.state = "started"

    def count(self, jobs: int, dead: int) -> None:
        """Add finished jobs, and dead events in them; the next heartbeat reports them."""
        with self._lock:
            self._done += jobs
            self._dead += dead

    def beat(self) -> None:
        """Send a heartbeat; if the entry is gone, it is created again. Raises RedisError."""
        self._clock.set(self._connection)
        now = format_time(datetime.fromtimestamp(self._clock.time(), UTC))
        self._born = self._born or now
        with self._lock:
            done, dead = self._done, self._dead
        entry = chain.from_iterable(self._entry(now).items())
        self._beat(self._name, ENTRY_SECONDS, now, self.state, done, dead, *entry)
        with self._lock:
            self._done -= done
            self._dead -= dead

    def end(self) -> None:
        """Remove the entry, because the worker ends. Raises RedisError."""
        forget_worker(self._connection, self._keys, self._name)

    def _entry(self, now: str) -> dict[str, str | int]:
        """The fields that rq writes at a worker's start."""
        return {
            "birth": self._born,
            "last_heartbeat": now,
            "queues": self._keys.queue,
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            # rq gets it from Redis by CLIENT LIST, which may be forbidden.
            "ip_address": "",
            "version": version("rq"),
            "python_version": platform.python_version(),
        }


def forget_worker(connection: Redis, keys: Keys, name: str) -> None:
    """Remove a worker's entry; works even if Redis is full. Raises RedisError."""
    entry = f"{keys.prefix}:worker:{name}"
    with connection.pipeline(transaction=False) as pipe:
        pipe.srem(f"{keys.prefix}:workers", entry)
        pipe.srem(f"{keys.prefix}:workers:{keys.queue}", entry)
        pipe.delete(entry)
        pipe.execute()


def worker_name() -> str:
    """Unique among all hosts and readable: the launcher's name and a random part. For the launcher to call."""
    return f"{pool_name()}-{uuid4().hex[:6]}"


def pool_name() -> str:
    """This launcher's name: host and pid."""
    host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname().split(".")[0])
    return f"birdfeed-{host}-{os.getpid()}"


def pool_of(worker: str) -> str:
    """The launcher's name from its worker's."""
    return worker.rpartition("-")[0] or worker
