"""Verification: whether Tinybird answers which events it has; until it does, events with unknown outcomes wait.

A worker that gets no answer notes it in Redis for `birdfeed status`, and removes the note when it has an answer.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.clock import Clock

log = logging.getLogger(__name__)

#: Seconds for which a note is kept at least; the question is repeated every 30 s.
KEEP_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A data source that doesn't answer which events it has: to which host, since when (epoch s), and why."""

    host: str
    reason: str
    since: float


@dataclass(slots=True)
class Verification:
    """Records whether one worker process's questions are answered."""

    connection: Redis
    keys: Keys
    host: str
    clock: Clock
    _since: dict[str, float] = field(default_factory=dict)

    def failed(self, datasource: str, reason: str, again_in: float) -> None:
        """Record that there was no answer; the question will be repeated in `again_in` seconds."""
        now = self.clock.time()
        note = Unanswered(host=self.host, reason=reason, since=self._since.setdefault(datasource, now))
        seconds = max(KEEP_SECONDS, again_in + KEEP_SECONDS)
        try:
            self.connection.set(_key(self.keys, datasource), orjson.dumps(note), px=int(seconds * 1_000))
        except RedisError as error:
            log.warning("can't record that verification fails: %s", error)

    def answered(self, datasource: str) -> None:
        """Record that there was an answer."""
        if self._since.pop(datasource, None) is None:
            return
        try:
            self.connection.delete(_key(self.keys, datasource))
        except RedisError as error:
            log.warning("can't record that verification works again: %s", error)


def unanswered(connection: Redis, keys: Keys, datasources: Iterable[str]) -> dict[str, Unanswered]:
    """The data sources that don't answer; unreadable notes are left out."""
    names = list(datasources)
    found = {}
    for name, note in zip(names, connection.mget([_key(keys, name) for name in names]), strict=True):
        try:
            has = orjson.loads(note or b"null")
            found[name] = Unanswered(host=str(has["host"]), reason=str(has["reason"]), since=float(has["since"]))
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _key(keys: Keys, datasource: str) -> str:
    return keys.birdfeed(f"unanswered:{datasource}")
