"""Refusals: which workers' tokens Tinybird refuses, so that one host's token stops that host's workers and no others.

A worker that is refused notes it in Redis, hands its jobs back and takes none, while some other worker isn't refused:
that one takes them. It tries again at growing waits, with the token that its file has by then. Where every running
worker is refused, it is not a worker's fault: the data source is paused for the whole pool, as for any other
misconfiguration, and each of them may probe it.
"""

import logging
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

#: Seconds the notes are kept after the last one.
KEEP_SECONDS: Final = 86_400
#: Longest wait in seconds between a refused worker's tries.
CAP_SECONDS: Final = 60.0
#: Seconds between looks at whether others are refused as well.
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One worker's token, refused by one data source. `since` is epoch s, `reason` what Tinybird said."""

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
    """The refusals as one worker process sees them; its threads share it.

    Args:
        connection: Redis.
        keys: Names of the keys.
        worker: The worker's name in rq.
        host: Its host's name, for people.
        clock: Time.
        base: Seconds of the first wait.
        draw: Source of jitter from 0 to 1; None for a random one.
        probe: Asks whether a data source takes this worker's token, and writes nothing; None where that isn't known.
    """

    connection: Redis
    keys: Keys
    worker: str
    host: str
    clock: Clock
    base: float = 1.0
    draw: Callable[[], float] | None = None
    probe: Callable[[str], bool | None] = lambda datasource: None
    _waits: dict[str, _Wait] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _look_at: float = 0.0

    def refused(self, datasource: str, reason: str) -> bool:
        """Tinybird refuses this worker's token. Returns whether every running worker's is refused by now."""
        now = self.clock.time()
        with self._lock:
            wait = self._waits.setdefault(datasource, _Wait(since=now))
            if wait.until <= now:  # answers to requests that were under way together are one refusal
                wait.failures += 1
                named = {} if self.draw is None else {"draw": self.draw}
                wait.until = now + backoff(wait.failures, base=self.base, cap=CAP_SECONDS, **named)
            since, wait.reason = wait.since, reason
        note = {"host": self.host, "reason": reason, "since": since}
        try:
            with self.connection.pipeline(transaction=False) as pipe:
                pipe.hset(self._key, _field(datasource, self.worker), orjson.dumps(note))
                pipe.expire(self._key, KEEP_SECONDS)
                pipe.execute()
        except RedisError as error:
            # A Redis that is full, say; then nobody is told, and jobs go to and fro a little.
            log.warning("can't record that the token is refused: %s", error)
        return self._everybody(datasource)

    def accepted(self, datasource: str) -> None:
        """Tinybird took this worker's token."""
        with self._lock:
            if datasource not in self._waits:
                return
        log.warning("%s accepts this worker's token again", datasource)
        everybody = self._everybody(datasource)
        with self._lock:
            self._waits.pop(datasource, None)
        try:
            # Where all were refused, that is over for all: whoever still is notes it at the next try.
            names = {self.worker} | (living_workers(self.connection, self.keys) if everybody else set())
            self.connection.hdel(self._key, *(_field(datasource, name) for name in names))
        except RedisError as error:
            log.warning("can't record that the token is accepted again: %s", error)

    def hands_over(self, datasource: str) -> bool:
        """Whether this worker leaves that data source's rows to others for now."""
        with self._lock:
            wait = self._waits.get(datasource)
            return wait is not None and wait.until > self.clock.time()

    def stopped(self) -> bool:
        """Whether this worker takes no jobs for now: its token is refused, and somebody else's isn't."""
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
        """Find out without any job whether the token is good by now; it may be in a file that was changed."""
        match self.probe(datasource):
            case True:
                self.accepted(datasource)
            case False:
                with self._lock:
                    wait = self._waits.get(datasource)
                if wait is not None:
                    self.refused(datasource, wait.reason)

    def _everybody(self, datasource: str) -> bool:
        """Whether every running worker is refused; where Redis can't tell, others are taken to be well."""
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
                wait.until = 0.0  # the pool's limiter has the data source paused, and lets one of us probe
        return True

    @property
    def _key(self) -> str:
        return refusals_key(self.keys)


def refusals_key(keys: Keys) -> str:
    """The hash of the notes: "data source worker" → JSON."""
    return keys.birdfeed("refused")


def refusals(connection: Redis, keys: Keys) -> list[Refusal]:
    """The running workers that are refused, by data source and host; notes that can't be read are left out."""
    notes = connection.hgetall(refusals_key(keys))
    if not notes:
        return []
    living = living_workers(connection, keys)
    found = [one for name, note in notes.items() if (one := _refusal(as_text(name), note)) is not None]
    return sorted(
        (one for one in found if one.worker in living), key=lambda one: (one.datasource, one.host, one.worker)
    )


def living_workers(connection: Redis, keys: Keys) -> set[str]:
    """Names of the workers that rq has: their entries go when they end, or 90 s after their last heartbeat."""
    prefix = f"{keys.prefix}:worker:"
    names = [as_text(key).removeprefix(prefix) for key in connection.smembers(f"{keys.prefix}:workers:{keys.queue}")]
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.exists(f"{prefix}{name}")
        return {name for name, there in zip(names, pipe.execute(), strict=True) if there}


def by_host(found: Iterable[Refusal]) -> dict[tuple[str, str], Sequence[Refusal]]:
    """The same by data source and host."""
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
