"""A user with the least rights, a Redis that denies single commands, and the effects of a refused try."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from birdfeed.encoding.batch import pack
from birdfeed.transport.connection import connect
from birdfeed.transport.enqueuer import HEARTBEAT_TTL, Enqueuer, Outcome
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.queued import assert_balanced, batches_in
from tests.support.repository import ROOT

DOCS = (ROOT / "docs" / "how-to" / "handler.md").read_text()


def rules() -> list[str]:
    """The rules of the user for handlers in the docs."""
    (line,) = [line for line in DOCS.splitlines() if line.startswith("ACL SETUSER birdfeed-producer")]
    return line.split()[3:]


@pytest.fixture
def least(redis: Redis, valkey_url: str, keys: Keys) -> Iterator[Enqueuer]:
    """A client as that user."""
    redis.execute_command("ACL", "SETUSER", "birdfeed-producer", *rules())
    url = valkey_url.replace("redis://", "redis://birdfeed-producer:PASSWORD@")
    with closing(Enqueuer(connect(url, timeout=5), keys, wait_replicas=0)) as enqueuer:
        yield enqueuer
    redis.execute_command("ACL", "DELUSER", "birdfeed-producer")


def test_the_least_rights_are_enough(redis: Redis, keys: Keys, least: Enqueuer) -> None:
    """Batches, reports of drops, heartbeats, and a script that must be loaded again; nothing else is allowed."""
    one = pack("text_generation", [b"{}"] * 3, compression=1)
    for _ in range(2):
        redis.script_flush()
        assert least.enqueue([one]).error is None
        assert least.report("r", {("text_generation", "spool_full"): 1}) is None
        assert least.heartbeat("p", {"host": "h"}) is None

    assert len(batches_in(redis, keys)) == 1
    assert_balanced(redis, keys)
    denied = least._client
    for command in (["GET", "x"], ["KEYS", "*"], ["SET", "other", "1"], ["FLUSHALL"], ["CONFIG", "GET", "*"]):
        with pytest.raises(Exception, match=r"(?i)permission"):
            denied.execute_command(*command)


@pytest.mark.parametrize("denied", ["client|setname", "client|setinfo", "client", "hset", "hincrby", "rpush", "lrem"])
def test_a_redis_that_denies_a_command(redis: Redis, valkey_url: str, keys: Keys, denied: str) -> None:
    """CLIENT SETNAME may fail; and a refused try counts nothing, however often it is made."""
    redis.execute_command("ACL", "SETUSER", "some", "on", ">p", "~*", "&*", "+@all", f"-{denied}")
    one = pack("text_generation", [b"{}"] * 3, compression=1)
    try:
        url = valkey_url.replace("redis://", "redis://some:p@")
        with closing(Enqueuer(connect(url, timeout=5), keys)) as enqueuer:
            outcomes = [enqueuer.enqueue([one]).outcomes[0] for _ in range(3)]
    finally:
        redis.execute_command("ACL", "DELUSER", "some")
    accepted = int(redis.hget(keys.ledger, "accepted:text_generation") or 0)

    if denied in ("hset", "hincrby", "rpush"):
        assert outcomes == [Outcome.REFUSED] * 3
        assert (accepted, redis.exists(keys.job(one.id)), redis.llen(keys.queue_list)) == (0, 0, 0)
        with closing(Enqueuer(connect(valkey_url, timeout=5), keys)) as enqueuer:
            assert enqueuer.enqueue([one]).outcomes == [Outcome.ACCEPTED]
    else:
        assert outcomes == [Outcome.ACCEPTED, Outcome.KNOWN, Outcome.KNOWN]
    assert len(batches_in(redis, keys)) == 1
    assert_balanced(redis, keys)


def test_the_connection_has_a_name(redis: Redis, valkey_url: str, keys: Keys) -> None:
    """For CLIENT LIST."""
    with closing(Enqueuer(connect(valkey_url, timeout=5), keys)) as enqueuer:
        enqueuer.enqueue([pack("text_generation", [b"{}"], compression=1)])
        assert "birdfeed-producer" in {client["name"] for client in redis.client_list()}


def test_a_heartbeat_is_found_and_expires(redis: Redis, valkey_url: str, keys: Keys) -> None:
    """By Redis's own clock; it is found without a scan."""
    with closing(Enqueuer(connect(valkey_url, timeout=5), keys)) as enqueuer:
        assert enqueuer.heartbeat("a", {"host": socket.gethostname(), "pid": os.getpid(), "gone": 1}) is None
        assert enqueuer.heartbeat("a", {"host": socket.gethostname(), "pid": os.getpid()}) is None

    now = int(redis.time()[0])
    assert redis.zrange(keys.producers, 0, -1) == [b"a"]
    assert 0 <= now - float(redis.zscore(keys.producers, "a") or 0) < 30
    beat = redis.hgetall(keys.producer("a"))
    assert set(beat) == {b"beat_at", b"host", b"pid"}
    assert 0 < redis.ttl(keys.producer("a")) <= HEARTBEAT_TTL
    assert 0 < redis.ttl(keys.producers) <= HEARTBEAT_TTL
    redis.zadd(keys.producers, {"old": now - HEARTBEAT_TTL - 1})
    with closing(Enqueuer(connect(valkey_url, timeout=5), keys)) as enqueuer:
        enqueuer.heartbeat("b", {})
    assert redis.zrange(keys.producers, 0, -1) == [b"a", b"b"]
