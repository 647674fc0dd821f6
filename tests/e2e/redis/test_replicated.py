"""With BIRDFEED_WAIT_REPLICAS no rows are sent before their mark is on the replicas, safe from a failover."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import MAYBE_WRITTEN_FIELD, Keys
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue import replicated
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis

from tests.support.events import enqueue, envelope, text
from tests.support.producer.apps.run import Server
from tests.support.servers.failover import followers
from tests.support.wait import eventually

ALL = {"jobs": 100, "events": 10_000, "size": 10_000_000}


@pytest.fixture
def job(redis: Redis, keys: Keys) -> ReservedJob:
    enqueue(redis, keys, [envelope(text())])
    (taken,) = Reserver(redis, keys, "w1", 20).reserve(**ALL)
    return taken


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "WAIT_MILLISECONDS", 50)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[tuple[Redis, Redis]]:
    """A master and its replica."""
    servers = Server(tmp_path / "master"), Server(tmp_path / "replica")
    with servers[0] as master, servers[1] as replica, master.client() as first, replica.client() as second:
        second.replicaof("127.0.0.1", str(master.port))
        eventually(lambda: followers(master) == 1, what="the replica follows")
        yield first, second


def test_a_mark_that_no_replica_has(redis: Redis, keys: Keys, job: ReservedJob, impatient: None) -> None:
    """No rows may be sent, and `birdfeed status` says why."""
    settler = Settler(redis, keys, "w1", wait_replicas=1)

    for _ in range(2):  # a second mark changes nothing
        assert settler.mark(job.execution, [job.id]) == {job.id}
    assert "workers wait for replicas: 0 of 1" in "".join(read_status(redis, keys, 1_000.0).problems)


def test_a_mark_that_a_replica_has(followed: tuple[Redis, Redis], keys: Keys) -> None:
    """It is in Redis when the rows may be sent; the script is sent to a master that doesn't have it."""
    master, replica = followed
    enqueue(master, keys, [envelope(text())])
    (job,) = Reserver(master, keys, "w1", 20).reserve(**ALL)
    settler = Settler(master, keys, "w1", wait_replicas=1)

    assert settler.mark(job.execution, [job.id]) == frozenset()
    first = replica.hget(keys.job(job.id), MAYBE_WRITTEN_FIELD)
    assert first == master.hget(keys.job(job.id), MAYBE_WRITTEN_FIELD)
    master.script_flush()
    assert settler.mark(job.execution, [job.id]) == frozenset()
    assert float(replica.hget(keys.job(job.id), MAYBE_WRITTEN_FIELD) or 0) > float(first or 0) > 0


def test_a_replica_that_comes_back(followed: tuple[Redis, Redis], keys: Keys, impatient: None) -> None:
    """The finding of `birdfeed status` disappears immediately."""
    master, replica = followed
    enqueue(master, keys, [envelope(text())])
    (job,) = Reserver(master, keys, "w1", 20).reserve(**ALL)
    settler = Settler(master, keys, "w1", wait_replicas=1)
    of = replica.info("replication")
    replica.replicaof("NO", "ONE")
    assert eventually(lambda: settler.mark(job.execution, [job.id]), what="a mark that no replica has") == {job.id}
    assert read_status(master, keys, 1_000.0).unreplicated == "0 of 1"
    replica.replicaof(of["master_host"], of["master_port"])
    eventually(lambda: not settler.mark(job.execution, [job.id]), what="a mark that the replica has")

    assert read_status(master, keys, 1_000.0).unreplicated == ""


def test_a_mark_of_a_job_that_another_worker_has(followed: tuple[Redis, Redis], keys: Keys) -> None:
    """The fence holds with replicas too."""
    master, _ = followed
    enqueue(master, keys, [envelope(text())])
    (job,) = Reserver(master, keys, "w1", 20).reserve(**ALL)

    assert Settler(master, keys, "w2", wait_replicas=1).mark(job.execution, [job.id]) == {job.id}


@pytest.mark.parametrize("wait_replicas", [0, 1])
def test_the_cost_of_a_mark(redis: Redis, keys: Keys, job: ReservedJob, impatient: None, wait_replicas: int) -> None:
    """One command for one mark.

    WAIT is sent only where replicas are required, and a note where too few have the mark.
    """
    settler = Settler(redis, keys, "w1", wait_replicas=wait_replicas)
    settler.mark(job.execution, [job.id])
    redis.config_resetstat()

    settler.mark(job.execution, [job.id])

    stats: dict[str, Any] = redis.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1 + wait_replicas
    assert ("cmdstat_wait" in stats) == (wait_replicas > 0)
