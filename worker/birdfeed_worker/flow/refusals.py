"""Refusals: which workers' tokens Tinybird refuses, so that a bad token on one host stops only that host's workers.

A refused worker notes it in Redis, gives its jobs back and reserves none as long as some other worker isn't refused:
that one takes them. It tries again at growing intervals, with the token that its file has by then. If every live worker
is refused, the cause is not one worker's token: the data source is paused for the whole pool, as for any other
misconfiguration, and each worker may probe it.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.backoff import backoff
from birdfeed_worker.queue.reply import as_text

log = logging.getLogger(__name__)

#: Seconds for which the notes are kept after the last one.
KEEP_SECONDS: Final = 86_400
#: Longest wait in seconds between a refused worker's tries.
CAP_SECONDS: Final = 60.0
#: Seconds between checks whether the other workers are refused as well.
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A data source's refusal of one worker's token. `since` is epoch s, `reason` Tinybird's message."""

    worker: str
    host: str
    datasource: str
    reason: str
    since: float


@dataclass(slots=True)
class _Wait:
    failures: int = 0
    until: float = 0.0
    since: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Refusals:
    """The refusals as one worker process sees them; its threads share this object.

    Args:
        worker: The worker's name in rq.
        host: Its host's name, for display.
        base: Seconds of the first wait.
        draw: Source of jitter from 0 to 1.
        probe: Asks whether a data source accepts this worker's token, without writing; returns None if unknown.
    """

    connection: Redis
    keys: Keys
    worker: str
    host: str
    clock: Clock
    base: float = 1.0
    draw: Callable[[], float] = random.random
    probe: Callable[[str], bool | None] = lambda datasource: None
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _look_at: float = 0.0

    def refused(self, datasource: str, reason: str) -> bool:
        """Record that Tinybird refused this worker's token; returns whether every live worker's token is refused."""
        now = self.clock.time()
        with self._lock:
            wait = self._waits.setdefault(datasource, _Wait(since=now))
            if wait.until <= now:  # the answers to concurrent requests count as one refusal
                wait.failures += 1
                wait.until = now + backoff(wait.failures, base=self.base, cap=CAP_SECONDS, draw=self.draw)
            since, wait.reason = wait.since, reason
        note = {"host": self.host, "reason": reason, "since": since}
        try:
            key = refusals_key(self.keys)
            with self.connection.pipeline(transaction=False) as pipe:
                pipe.hset(key, _field(datasource, self.worker), orjson.dumps(note))
                pipe.expire(key, KEEP_SECONDS)
                pipe.execute()
        except RedisError as error:
            # Redis may be full; then other workers don't know, and jobs go back and forth a little.
            log.warning("can't record that the token is refused: %s", error)
        return self._everybody(datasource)

    def accepted(self, datasource: str) -> None:
        """Record that Tinybird accepted this worker's token."""
        with self._lock:
            if datasource not in self._waits:
                return
        log.warning("%s accepts this worker's token again", datasource)
        everybody = self._everybody(datasource)
        with self._lock:
            self._waits.pop(datasource, None)
        try:
            # If all were refused, remove all notes: a worker that is still refused notes it again at its next try.
            names = {self.worker} | (living_workers(self.connection, self.keys) if everybody else set())
            self.connection.hdel(refusals_key(self.keys), *(_field(datasource, name) for name in names))
        except RedisError as error:
            log.warning("can't record that the token is accepted again: %s", error)

    def hands_over(self, datasource: str) -> bool:
        """Whether this worker leaves that data source's rows to other workers for now."""
        with self._lock:
            wait = self._waits.get(datasource)
            return wait is not None and wait.until > self.clock.time()

    def stopped(self) -> bool:
        """Whether this worker reserves no jobs for now: its token is refused, and another worker's isn't."""
        now = self.clock.time()
        with self._lock:
            names = list(self._waits)
            looks = bool(names) and now >= self._look_at
            if looks:
                self._look_at = now + LOOK_SECONDS
        for datasource in names if looks else ():
            if not self._everybody(datasource) and not self.hands_over(datasource):
                self._probe(datasource)
        return any(self.hands_over(datasource) for datasource in names)

    def _probe(self, datasource: str) -> None:
        """Test, without a job, whether the token is accepted now; the file that holds it may have changed."""
        match self.probe(datasource):
            case True:
                self.accepted(datasource)
            case False:
                with self._lock:
                    wait = self._waits.get(datasource)
                if wait is not None:
                    self.refused(datasource, wait.reason)

    def _everybody(self, datasource: str) -> bool:
        """Whether every live worker is refused; if Redis can't be asked, False."""
        try:
            refused = {one.worker for one in refusals(self.connection, self.keys) if one.datasource == datasource}
            living = living_workers(self.connection, self.keys)
        except RedisError as error:
            log.warning("can't read whose tokens are refused: %s", error)
            return False
        if not living <= refused | {self.worker}:
            return False
        with self._lock:
            if (wait := self._waits.get(datasource)) is not None:
                wait.until = 0.0  # the pool's limiter has paused the data source, and lets one worker probe
        return True


def refusals_key(keys: Keys) -> str:
    """The hash of the notes: "data source worker" → JSON."""
    return keys.birdfeed("refused")


def refusals(connection: Redis, keys: Keys) -> list[Refusal]:
    """The refusals of live workers, sorted by data source and host; unreadable notes are left out."""
    notes = connection.hgetall(refusals_key(keys))
    if not notes:
        return []
    living = living_workers(connection, keys)
    found = [one for name, note in notes.items() if (one := _refusal(as_text(name), note)) is not None]
    return sorted(
        (one for one in found if one.worker in living), key=lambda one: (one.datasource, one.host, one.worker)
    )


def living_workers(connection: Redis, keys: Keys) -> set[str]:
    """Names of the workers in rq's set: entries are removed when workers end, or 90 s after their last heartbeat."""
    prefix = f"{keys.prefix}:worker:"
    names = [as_text(key).removeprefix(prefix) for key in connection.smembers(f"{keys.prefix}:workers:{keys.queue}")]
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.exists(f"{prefix}{name}")
        return {name for name, there in zip(names, pipe.execute(), strict=True) if there}


def by_host(found: Iterable[Refusal]) -> dict[tuple[str, str], Sequence[Refusal]]:
    """(data source, host) → its refusals."""
    hosts: dict[tuple[str, str], list[Refusal]] = {}
    for one in found:
        hosts.setdefault((one.datasource, one.host), []).append(one)
    return {key: tuple(value) for key, value in hosts.items()}


def _field(datasource: str, worker: str) -> str:
    return f"{datasource} {worker}"


def _refusal(name: str, note: bytes | str) -> Refusal | None:
    datasource, _, worker = name.partition(" ")
    try:
        has = orjson.loads(note)
        return Refusal(
            worker=worker,
            host=str(has["host"]),
            datasource=datasource,
            reason=str(has["reason"]),
            since=float(has["since"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
