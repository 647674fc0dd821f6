"""Facts about a Redis server: its version, whether birdfeed can use it, what can lose events, and how full it is.

INFO gives all of it. If INFO is forbidden, CONFIG gives some. If both are, nothing is known and nothing is claimed;
birdfeed works there, too.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError

#: The oldest versions that are tested.
OLDEST_REDIS: Final = (6, 2)
OLDEST_VALKEY: Final = (7, 2)
CLUSTER: Final = (
    "this Redis is a Cluster, which is not supported: a job, its queue and its counts must change in one step, and the "
    "cluster would keep them on different nodes; use a single Redis or Valkey, with Sentinel if it must not stop"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What is known about a Redis server; None for what can't be asked.

    `version` is a tuple of numbers; `valkey` is whether it is Valkey. memory_used and memory_max are in bytes, as Redis
    compares them (without its replication and append-only buffers); memory_max 0 means no limit.
    """

    version: tuple[int, ...] | None = None
    valkey: bool = False
    cluster: bool = False
    policy: str | None = None
    append_only: bool | None = None
    memory_used: int | None = None
    memory_max: int | None = None

    @property
    def memory_share(self) -> float | None:
        """The share of the memory limit that is used; None if there is no limit or it isn't known."""
        return None if self.memory_used is None or not self.memory_max else self.memory_used / self.memory_max

    @property
    def unsuitable(self) -> str:
        """Why birdfeed can't use it, in one sentence; empty if it can, as far as is known."""
        if self.cluster:
            return CLUSTER
        oldest, name = (OLDEST_VALKEY, "Valkey") if self.valkey else (OLDEST_REDIS, "Redis")
        if self.version is not None and self.version[: len(oldest)] < oldest:
            has, needs = (".".join(str(part) for part in one) for one in (self.version, oldest))
            return f"this is {name} {has}; birdfeed needs {name} {needs} or later"
        return ""

    @property
    def warnings(self) -> list[str]:
        """What can lose events, one sentence each."""
        said = []
        if self.policy not in {None, "", "noeviction"} and self.memory_max:
            said.append(f"Redis evicts keys when it is full (maxmemory-policy {self.policy}): queued events can vanish")
        if self.append_only is False:
            said.append("Redis keeps no append-only file (appendonly no): a restart loses queued events")
        return said

    @property
    def notes(self) -> list[str]:
        """What can't be known, one sentence each. These are not problems."""
        said = []
        if self.memory_used is None or self.memory_max is None:
            said.append(
                "Redis doesn't let birdfeed read its memory use (INFO): there will be no warning before it is full"
            )
        if self.policy is None or self.append_only is None:
            said.append(
                "Redis doesn't let birdfeed read its configuration (INFO, CONFIG): make sure that it keeps an "
                "append-only file and evicts nothing"
            )
        return said


def redis_facts(connection: Redis) -> RedisFacts:
    """Ask a Redis server about itself. Raises RedisError if it doesn't answer; what it forbids stays unknown."""
    info: Mapping[str, Any] = {}
    with suppress(ResponseError):
        info = connection.info()
    version = str(info.get("valkey_version") or info.get("redis_version") or "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    used = _number(info.get("used_memory"))
    policy, limit = info.get("maxmemory_policy"), _number(info.get("maxmemory"))
    append_only = _number(info.get("aof_enabled"))
    if policy is None:
        policy = _config(connection, "maxmemory-policy")
    if limit is None:
        limit = _number(_config(connection, "maxmemory"))
    if append_only is None and (setting := _config(connection, "appendonly")) is not None:
        append_only = int(setting == "yes")
    return RedisFacts(
        version=numbers or None,
        valkey="valkey_version" in info,
        cluster=bool(info.get("cluster_enabled")) or info.get("redis_mode") == "cluster",
        policy=None if policy is None else str(policy),
        append_only=None if append_only is None else bool(append_only),
        memory_used=None if used is None else max(0, used - (_number(info.get("mem_not_counted_for_evict")) or 0)),
        memory_max=limit,
    )


def _config(connection: Redis, name: str) -> str | None:
    try:
        found: Mapping[Any, Any] = connection.config_get(name)
    except ResponseError:
        return None
    values = {_text(key): _text(value) for key, value in found.items()}
    return values.get(name)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
