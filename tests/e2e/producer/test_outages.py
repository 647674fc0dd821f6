"""Faults of Redis, and of the spool: each event is in Redis once, or its loss is counted by reason."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.producer.apps.run import App, Server, arrives, run, sentinel
from tests.support.wait import eventually

#: Seconds to wait for Redis, where it answers: longer than any machine is busy, as an answer that comes too late is a
#: case of its own; and where it doesn't answer.
PATIENT = {"BIRDFEED_REDIS_TIMEOUT": "20"}
HASTY = {"BIRDFEED_REDIS_TIMEOUT": "0.5"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey") as made:
        yield made


@pytest.fixture
def env(server: Server, tmp_path: Path) -> dict[str, str]:
    return {"BIRDFEED_REDIS_URL": server.url, "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"), **PATIENT}


def spool_of(env: dict[str, str]) -> Spool:
    settings = ProducerSettings(redis_url=env["BIRDFEED_REDIS_URL"], spool_dir=Path(env["BIRDFEED_SPOOL_DIR"]))
    return Spool.of(settings.options(), busy_seconds=10)


def events_in_spool(env: dict[str, str]) -> int:
    """How many events are in the spool; 0 where there is none."""
    with closing(spool_of(env)) as spool:
        return spool.totals().events if spool.exists() else 0


@contextmanager
def refusing(server: Server, how: str) -> Iterator[None]:
    """The server answers, but doesn't write."""
    with server.client() as client:
        if how == "full":
            client.config_set("maxmemory", "1")
        elif how == "read-only":
            client.replicaof("127.0.0.1", "1")
        elif how == "password":
            client.config_set("requirepass", "new")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        client.config_set("maxmemory", "0")
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("requirepass", "")


@pytest.mark.parametrize("how", ["full", "read-only", "password"])
def test_a_redis_that_refuses_to_write(server: Server, env: dict[str, str], how: str) -> None:
    """Events tracked meanwhile are in the spool immediately, and are delivered when it writes again."""
    with App("tracks_when_told", 100, env=env) as app:
        app.line()
        app.say("flush")
        assert app.line() == "True"
        with refusing(server, how):
            app.say("flush")
            assert app.line() == "True"
            assert len(server_numbers_by_admin(server, how)) == 100
        arrives(server, list(range(200)))
        assert not any(server.retried())
        app.say("end")
        assert app.ended()[0] == 0


def server_numbers_by_admin(server: Server, how: str) -> list[int]:
    if how != "password":
        return server.numbers()
    with_password = server.url.replace("redis://", "redis://:new@")
    original, server.url = server.url, with_password
    try:
        return server.numbers()
    finally:
        server.url = original


def test_a_redis_that_is_killed_and_comes_back(server: Server, env: dict[str, str]) -> None:
    """Twice, while 500 events a second are tracked."""
    with App("tracks_steadily", 500, env=env) as app:
        app.line()
        for _ in range(2):
            before = len(server.numbers())
            eventually(lambda: len(server.numbers()) > before, what="new events")  # noqa: B023
            server.kill()
            eventually(lambda: events_in_spool(env) > 0, what="events in the spool")
            server.start()
        app.say("end")
        count = int(app.line())
        app.ended()
    with App("drains", 300, env=env) as drainer:
        drainer.line()
        arrives(server, list(range(count)), within=120)


def is_loading(server: Server) -> bool:
    with server.client() as client:
        try:
            client.ping()
        except BusyLoadingError:
            return True
        except RedisConnectionError:
            return False  # not started yet
    raise AssertionError("it was loaded before anybody looked")


def test_a_redis_that_is_loading(tmp_path: Path) -> None:
    """After a restart, while it reads its file (LOADING): events go to the spool immediately, and are sent later."""
    with Server(tmp_path / "valkey", **{"key-load-delay": "500"}) as server:  # µs a key
        env = {"BIRDFEED_REDIS_URL": server.url, "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"), **PATIENT}
        with server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(20_000):
                pipe.set(f"ballast-{number}", "")
            pipe.execute()
        with App("tracks_when_told", 100, env=env) as app, ThreadPoolExecutor(1) as thread:
            app.line()
            app.say("flush")
            assert app.line() == "True"
            server.kill()
            back = thread.submit(server.start)
            eventually(lambda: is_loading(server), what="Redis is loading")
            app.say("flush")
            assert app.line() == "True"
            assert events_in_spool(env) == 100
            back.result()
            arrives(server, list(range(200)))
            assert not any(server.retried())


def test_a_redis_that_hangs(server: Server, env: dict[str, str]) -> None:
    """It accepts the bytes and answers too late: the batch is sent again with the same id, and marked."""
    with App("tracks_when_told", 100, env=env | HASTY) as app:
        app.line()
        app.say("flush")
        assert app.line() == "True"
        with server.frozen():
            app.say("flush")
            assert app.line() == "True"
        arrives(server, list(range(200)))
        eventually(lambda: events_in_spool(env) == 0, what="the spool is empty")
        arrives(server, list(range(200)))


def test_close_keeps_its_deadline_while_redis_hangs(server: Server, env: dict[str, str]) -> None:
    """All events are in the spool."""
    with server.frozen():
        code, out, err = run("exits", 500, env={**env, **HASTY, "BIRDFEED_CLOSE_TIMEOUT": "5"})
        assert code == 0, err
        assert time.monotonic() - float(out) < 5 + 5
    assert events_in_spool(env) == 500


def test_a_failover_to_a_replica(tmp_path: Path) -> None:
    """Sentinel promotes the replica; with WAIT nothing that was acknowledged is lost."""
    with Server(tmp_path / "master") as master, Server(tmp_path / "replica") as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", str(master.port))
        eventually(lambda: _linked(replica), what="the replica follows")
        with sentinel(tmp_path / "sentinel", master) as port:
            env = {
                "BIRDFEED_REDIS_URL": f"redis+sentinel://127.0.0.1:{port}/mine/0",
                "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"),
                **HASTY,
                "BIRDFEED_WAIT_REPLICAS": "1",
            }
            with App("tracks_steadily", 200, env=env) as app:
                app.line()
                eventually(lambda: len(replica.numbers()) > 50, what="events on the replica")
                master.kill()
                eventually(lambda: _role(replica) == "master", what="the replica is master")
                # One replica is required and none is left: batches are kept, and sent again, until there is one.
                with Server(tmp_path / "second") as second:
                    with second.client() as client:
                        client.replicaof("127.0.0.1", str(replica.port))
                    eventually(lambda: _linked(second), what="the second replica follows")
                    app.say("end")
                    count = int(app.line())
                    assert app.line() == "True"
                    app.ended()
                    with App("drains", 300, env=env) as drainer:
                        drainer.line()
                        arrives(replica, list(range(count)), within=120)


def _role(server: Server) -> str:
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except RedisConnectionError:  # a server that changes its role cuts its connections
        return ""


def _linked(server: Server) -> bool:
    with server.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


@pytest.mark.parametrize("kill_after", [0.05, 0.5])
def test_two_processes_drain_and_one_is_killed(tmp_path: Path, kill_after: float) -> None:
    """Before it has sent a batch, or in the middle. Each batch is in Redis once."""
    server = Server(tmp_path / "valkey")
    env = {
        "BIRDFEED_REDIS_URL": server.url,
        "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"),
        "BIRDFEED_SPOOL_DRAIN_RATE": "4000",
        "BIRDFEED_BATCH_EVENTS": "20",
    }
    assert run("exits", 4000, env=env)[0] == 0
    assert events_in_spool(env) == 4000
    with server, App("drains", 300, env=env) as victim, App("drains", 300, env=env) as other:
        victim.line()
        other.line()
        eventually(lambda: len(server.numbers()) > 4000 * kill_after, what="some events")
        victim.signal(signal.SIGKILL)
        # What the killed process was sending is free when its lease has expired.
        arrives(server, list(range(4000)), within=120)
        eventually(lambda: events_in_spool(env) == 0, what="the spool is empty", within=120)
        assert server.final_numbers() == list(range(4000))


def test_a_full_spool_drops_and_counts(server: Server, env: dict[str, str]) -> None:
    """The kept events plus the counted drops are what was tracked; the counts reach the ledger when Redis is back."""
    env |= {"BIRDFEED_SPOOL_BYTES": "20000", "BIRDFEED_BATCH_EVENTS": "50"}
    with App("tracks_when_told", 1000, env=env) as app:
        app.line()
        with refusing(server, "full"):
            for _ in range(5):
                app.say("flush")
                assert app.line() == "True"
            kept = events_in_spool(env)
            assert 0 < kept < 5000
        arrives(server, list(range(kept)))
        eventually(lambda: _dropped(server, "spool_full") == 5000 - kept, what="the drops are in the ledger")
        assert server.ledger()["accepted:text_generation"] == 5000


def test_the_oldest_events_are_dropped_by_the_other_policy(server: Server, env: dict[str, str]) -> None:
    """With the policy "oldest"."""
    env |= {"BIRDFEED_SPOOL_BYTES": "20000", "BIRDFEED_BATCH_EVENTS": "50", "BIRDFEED_DROP_POLICY": "oldest"}
    with App("tracks_when_told", 1000, env=env) as app:
        app.line()
        with refusing(server, "full"):
            for _ in range(5):
                app.say("flush")
                assert app.line() == "True"
            kept = events_in_spool(env)
        arrives(server, list(range(5000 - kept, 5000)))
        eventually(lambda: _dropped(server, "spool_full") == 5000 - kept, what="the drops are in the ledger")


def test_without_a_spool_and_without_redis_memory_is_bounded(server: Server, env: dict[str, str]) -> None:
    """Events wait in memory; over the bound they are dropped, counted and reported."""
    env |= {"BIRDFEED_SPOOL_BYTES": "0", "BIRDFEED_BUFFER_EVENTS": "500"}
    with App("tracks_when_told", 300, env=env) as app:
        app.line()
        with refusing(server, "full"):
            for _ in range(4):
                app.say("flush")
                assert app.line() == "False"
        eventually(lambda: sum(server.ledger().get(name, 0) for name in _ACCEPTED) == 1200, what="a full ledger")
        there = server.final_numbers()
        assert len(there) + _dropped(server, "buffer_full") == 1200
        assert 500 <= len(there) <= 800


@pytest.mark.parametrize("damage", ["text", "a directory", "a folder all may write to"])
def test_a_broken_spool_never_harms_the_handler(server: Server, env: dict[str, str], damage: str) -> None:
    """With Redis away as well: events wait in memory, or in a new file, and are sent later."""
    path = spool_of(env).path
    path.parent.mkdir(mode=0o700)
    if damage == "text":
        path.write_text("no database" * 1000)
    elif damage == "a directory":
        path.mkdir()
    else:
        path.parent.chmod(0o777)
    with App("tracks_when_told", 100, env=env) as app:
        app.line()
        with refusing(server, "full"):
            app.say("track")
            assert app.line() == "tracked"
            app.say("flush")
            app.line()
        arrives(server, list(range(200)))
        app.say("end")
        assert app.ended()[0] == 0


_ACCEPTED = ("accepted:text_generation", "accepted:unknown")


def _dropped(server: Server, reason: str) -> int:
    return server.ledger().get(f"dropped:text_generation:{reason}", 0)


def test_a_unix_socket(tmp_path: Path) -> None:
    """A unix:// URL works as well."""
    socket = tmp_path / "s"
    with Server(tmp_path / "valkey", unixsocket=str(socket)) as server:
        env = {"BIRDFEED_REDIS_URL": f"unix://{socket}?db=0", "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool")}
        assert run("exits", 100, env=env)[0] == 0
        assert server.final_numbers() == list(range(100))
