"""What `client_of` makes of a redis+sentinel:// URL: a client of the current master after any fault."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from birdfeed_schemas.redis_url import client_of
from redis import Redis, exceptions
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.support.servers.failover import SERVICE, Cluster, role
from tests.support.servers.redis_servers import free_port
from tests.support.wait import eventually

#: As worker/birdfeed_worker/queue/connect.py has them, but with a shorter wait for an answer.
OPTIONS: dict[str, Any] = {
    "socket_timeout": 2.0,
    "socket_connect_timeout": 1.0,
    "retry": Retry(ConstantBackoff(0.1), 60),
    "retry_on_error": [exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError],
}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), sentinels=3) as cluster:
        yield cluster


@pytest.fixture
def cluster(standing: Cluster) -> Iterator[Cluster]:
    """A cluster that is complete before and after each test."""
    yield standing
    standing.mend()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Redis]:
    with client_of(cluster.url, "test", OPTIONS) as client:
        yield client


def port_of(client: Redis) -> int:
    return int(client.info("server")["tcp_port"])


@contextmanager
def in_flight(cluster: Cluster, client: Redis) -> Iterator[list[object]]:
    """A command that waits for its answer when the block begins; yields its future."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(client.blpop(["nothing"], 1))
        except exceptions.RedisError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    with cluster.master().client() as watcher:
        eventually(lambda: watcher.info("clients")["blocked_clients"], what="the command waits")
    yield answers
    thread.join(30)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_command_in_flight(cluster: Cluster, client: Redis, how: str) -> None:
    """The new master answers it, soon and without an error, after the old one was killed or hung."""
    old = cluster.master()
    with in_flight(cluster, client) as answers, old.frozen() if how == "frozen" else nullcontext():
        began = time.monotonic()
        if how == "killed":
            old.kill()
        eventually(lambda: answers, what="the command is answered", within=12)
        assert answers == [None]
        assert time.monotonic() - began < 8
        assert port_of(client) == cluster.switched(old).port


def test_a_planned_failover(cluster: Cluster, client: Redis) -> None:
    """Sentinel leaves the old master a master for ten seconds; whatever a client still writes to it is lost."""
    old = cluster.master()
    assert port_of(client) == old.port
    cluster.order_failover()
    new = cluster.switched(old)

    eventually(lambda: port_of(client) == new.port, what="the client is at the new master", within=3)
    assert role(old) == "master"


def test_a_coordinated_failover(cluster: Cluster, client: Redis) -> None:
    """The old master becomes a replica immediately and refuses writes: READONLY sends the client to the new one."""
    old = cluster.master()
    client.set("x", 1)
    cluster.order_failover(coordinated=True)
    eventually(lambda: role(old) == "slave", what="the old master is a replica")

    client.set("x", 2)
    assert port_of(client) == cluster.switched(old).port


def test_a_sentinel_that_is_gone_and_one_that_hangs(cluster: Cluster) -> None:
    """The first one that answers is used; each of the others costs one timeout, not all the retries."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        hosts = [free_port(), hanging.getsockname()[1], cluster.sentinel_ports[0]]
        url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in hosts)}/{SERVICE}/0"
        with client_of(url, "test", OPTIONS) as client:
            began = time.monotonic()
            assert port_of(client) == cluster.master().port
            assert time.monotonic() - began < 3


def test_sentinels_that_are_all_gone(cluster: Cluster) -> None:
    """An open connection is used further; that needs no Sentinel."""
    with Cluster(cluster.folder / "lone", replicas=1) as lone, client_of(lone.url, "test", OPTIONS) as client:
        client.set("x", 1)
        lone.stop_sentinels()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            began = time.monotonic()
            client.incr("x")
            assert time.monotonic() - began < 1
