"""Calls single Lua scripts, and reads all that is in Redis afterwards."""

from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import script
from redis import Redis

#: For scripts that need what fakeredis doesn't have: sha1hex, maxmemory.
ON_A_REAL_SERVER = pytest.mark.parametrize("redis", ["valkey"], indirect=True)


class Scripts:
    """The scripts on one Redis, each called with its arguments after prefix and queue."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys

    def __call__(self, name: str, *args: Any) -> Any:
        """Call a script; returns its answer, with bytes as text."""
        return texts(script(self.redis, self.keys, name)(*args))

    def now(self) -> float:
        """Redis's time."""
        seconds, micros = self.redis.time()
        return float(seconds) + micros / 1e6

    def all(self) -> dict[str, Any]:
        """Every key with its value: text, list, set, or mapping (a sorted set's to its scores)."""
        return {as_text(key): self._read(key) for key in self.redis.keys("*")}

    def put(self, **values: Any) -> None:
        """Write keys by their short names (job_x is x's hash): a dict of text is a hash, of numbers a sorted set."""
        for name, value in values.items():
            key = self.key(name)
            if isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values()):
                self.redis.zadd(key, value)
            elif isinstance(value, dict):
                self.redis.hset(key, mapping=value)
            elif isinstance(value, list):
                self.redis.rpush(key, *value)
            elif isinstance(value, set):
                self.redis.sadd(key, *value)
            else:
                self.redis.set(key, value)

    def key(self, name: str) -> str:
        """A key's whole name."""
        kind, _, rest = name.partition("_")
        prefix, queue = self.keys.prefix, self.keys.queue
        one_word = {"queue", "wip", "scheduled", "failed"}
        if name in one_word:
            return f"{prefix}:{name}:{queue}"
        if kind in ("job", "results", "executions", "execution"):
            return f"{prefix}:{kind}:{rest}"
        if kind == "holds":
            return f"{prefix}:worker:{rest}:executions"
        return f"{prefix}:birdfeed:{queue}:{name.replace('_', ':', 1)}" if name != "queues" else f"{prefix}:queues"

    def read(self, name: str) -> Any:
        """The value of a key; None if it doesn't exist."""
        return self._read(self.key(name))

    def _read(self, key: str | bytes) -> Any:
        match as_text(self.redis.type(key)):
            case "hash":
                return texts(self.redis.hgetall(key))
            case "list":
                return texts(self.redis.lrange(key, 0, -1))
            case "set":
                return set(texts(list(self.redis.smembers(key))))
            case "zset":
                scored: Any = self.redis.zrange(key, 0, -1, withscores=True)
                return {as_text(member): score for member, score in scored}
            case "string":
                return texts(self.redis.get(key))
            case "stream":
                entries: Any = self.redis.xrange(key)
                return [(as_text(entry), texts(fields)) for entry, fields in entries]
        return None


def lease(run: Scripts, **leases: float) -> None:
    """Leases (job_execution) of worker w that expire after so many seconds, with rq's entries for them."""
    for name, ends in leases.items():
        job, _, execution = name.partition("_")
        run.put(
            wip={f"{job}:{execution}": run.now() + ends},
            **{
                f"executions_{job}": {execution: run.now() + ends},
                f"execution_{job}:{execution}": {"worker_name": "w"},
                "holds_w": {f"{job}:{execution}"},
            },
        )


def texts(value: Any) -> Any:
    """Bytes in lists and mappings as text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {texts(name): texts(one) for name, one in value.items()}
    if isinstance(value, list):
        return [texts(one) for one in value]
    return value
