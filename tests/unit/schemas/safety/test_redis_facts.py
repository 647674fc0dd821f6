"""Facts about a Redis, what makes it unsuitable, and what is unknown if INFO or CONFIG is denied."""

from typing import Any

import pytest
from birdfeed_schemas.safety.redis_facts import RedisFacts, redis_facts
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError


class Asked:
    """A Redis that answers INFO and CONFIG GET with these, or refuses."""

    def __init__(self, info: dict[str, Any] | Exception, config: dict[str, str] | Exception) -> None:
        self._info = info
        self._config = config

    def info(self) -> dict[str, Any]:
        if isinstance(self._info, Exception):
            raise self._info
        return self._info

    def config_get(self, name: str) -> dict[str, str]:
        if isinstance(self._config, Exception):
            raise self._config
        return {name: self._config[name]} if name in self._config else {}


DENIED = NoPermissionError("User x has no permissions to run the 'info' command")
ABSENT = ResponseError("unknown command 'CONFIG'")
INFO = {
    "redis_version": "7.0.15",
    "maxmemory": 1_000,
    "used_memory": 900,
    "mem_not_counted_for_evict": 100,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "cluster_enabled": 0,
}
CONFIG = {"maxmemory-policy": "allkeys-lru", "maxmemory": "500", "appendonly": "no"}


def facts(info: dict[str, Any] | Exception, config: dict[str, str] | Exception = ABSENT) -> RedisFacts:
    return redis_facts(Asked(info, config))  # type: ignore[arg-type]


def test_info_has_all_facts(redis: Redis) -> None:
    """On a real server, without CONFIG."""
    found = redis_facts(redis)

    assert found.valkey
    assert found.version is not None
    assert found.version > (8,)
    assert (found.unsuitable, found.warnings, found.notes) == ("", [], [])
    assert found.memory_used
    assert found.memory_share is None, "it has no limit"


def test_info_is_enough() -> None:
    """Managed servers forbid CONFIG. Memory that doesn't count towards the limit is excluded."""
    found = facts(INFO)

    assert (found.version, found.policy, found.append_only) == ((7, 0, 15), "noeviction", True)
    assert found.memory_share == 0.8
    assert (found.unsuitable, found.warnings, found.notes) == ("", [], [])


def test_config_replaces_a_denied_info() -> None:
    """All facts but the used memory."""
    found = facts(DENIED, CONFIG)

    assert (found.policy, found.append_only, found.memory_max, found.memory_used) == ("allkeys-lru", False, 500, None)
    assert len(found.warnings) == 2
    assert [note[:44] for note in found.notes] == ["Redis doesn't let birdfeed read its memory u"]


@pytest.mark.parametrize("refusal", [DENIED, ABSENT])
def test_unknown_facts_are_not_warnings(refusal: Exception) -> None:
    """So status can be healthy and BIRDFEED_REDIS_CHECK=refuse starts; it is logged once at start."""
    found = facts(refusal, refusal)

    assert (found.unsuitable, found.warnings, len(found.notes)) == ("", [], 2)


def test_one_that_does_not_answer_raises() -> None:
    """Because it may come back."""
    with pytest.raises(RedisConnectionError):
        facts(RedisConnectionError("gone"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"redis_version": "6.0.16"}, "this is Redis 6.0.16; birdfeed needs Redis 6.2 or later"),
        ({"redis_version": "6.2.0"}, ""),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, ""),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "needs Valkey 7.2 or later"),
        ({"redis_version": "unstable"}, ""),
        ({"cluster_enabled": 1}, "this Redis is a Cluster, which is not supported"),
        ({"redis_mode": "cluster"}, "this Redis is a Cluster, which is not supported"),
    ],
)
def test_unsuitable_servers(changes: dict[str, Any], said: str) -> None:
    """In one sentence, before any worker starts."""
    found = facts({**INFO, **changes}).unsuitable

    assert said in found
    assert bool(said) == bool(found)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "Redis evicts keys"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, ""),
        ({"aof_enabled": 0}, "Redis keeps no append-only file"),
    ],
)
def test_servers_that_can_lose_events(changes: dict[str, Any], said: str) -> None:
    """Eviction matters only with a memory limit."""
    assert said in "".join(facts({**INFO, **changes}).warnings)
    assert bool(said) == bool(facts({**INFO, **changes}).warnings)
