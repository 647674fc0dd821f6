"""A Redis that is full can be drained: everything that frees memory or shows the state works.

`maxmemory` is one byte: every command that needs memory is refused from then on, however much is freed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.process import Sandbox
from redis import Redis
from redis.exceptions import OutOfMemoryError

from tests.support.events import enqueue, envelope, text
from tests.support.servers.redis_servers import MUST_HAVE_ALL, REDIS_6, redis_server, valkey
from tests.support.servers.system import System
from tests.support.wait import eventually

SERVERS = ["valkey", "redis-server", *(["redis 6.2"] if REDIS_6 or MUST_HAVE_ALL else [])]
N = 120


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each supported server that is installed."""
    if request.param == "valkey":
        with valkey(tmp_path / "redis") as url:
            yield url
    elif request.param == "redis 6.2":
        with redis_server(tmp_path / "redis", REDIS_6 or "redis-server-6.2") as url:
            assert Redis.from_url(url).info("server")["redis_version"].startswith("6.2")
            yield url
    else:
        with redis_server(tmp_path / "redis") as url:
            yield url


@pytest.fixture
def system(server: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    sandbox.sql("SYSTEM STOP MERGES")
    with System(server, sandbox, tmp_path) as system:
        yield system


def put(system: System, *, first: int = 0, count: int = N, **fields: Any) -> None:
    """Events in jobs of ten, counted as accepted."""
    for start in range(first, first + count, 10):
        enqueue(
            system.redis,
            system.keys,
            [envelope(text(request_id=f"r{number}", **fields)) for number in range(start, start + 10)],
        )
    system.redis.hincrby(system.keys.ledger, "accepted:text_generation", count)


def fill(system: System) -> None:
    system.redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        system.redis.set("x", "y")


@pytest.mark.parametrize("started", ["before", "after"])
def test_the_pool_empties_it(system: System, started: str) -> None:
    """Whether workers started before or after it was full: without help, and nothing is lost or doubled."""
    system.sandbox.fault(outage=True)
    put(system)
    put(system, first=N, count=10, model=["no", "text"])
    if started == "before":
        system.start_pool(2)
        eventually(lambda: system.redis.zcard(system.keys.scheduled), what="jobs wait for the store")
        fill(system)
    else:
        fill(system)
        system.start_pool(2)
    pids = set(system.workers().values())
    system.sandbox.clear_faults()

    system.drained(within=40)

    assert system.rows() == {f"r{number}": 1 for number in range(N)}
    assert set(system.workers().values()) == pids, "no worker ended"
    assert {letter.reason for letter in system.dead()} == {"invalid"}
    ledger = system.ledger()
    assert ledger == {
        "accepted:text_generation": N + 10,
        "written:text_generation": N,
        "dead:text_generation:invalid": 10,
    }


def test_a_worker_killed_while_it_is_full(system: System) -> None:
    """Its jobs go to another worker, which queries the store first."""
    system.sandbox.fault(answer_delay_seconds=5.0, times=1)
    put(system)
    system.start_pool(1)
    eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in flight")
    fill(system)
    eventually(lambda: system.rows(), what="rows are written")
    system.kill_a_worker()

    system.drained(within=40)

    assert system.rows() == {f"r{number}": 1 for number in range(N)}


def test_an_operator_at_a_full_redis(system: System) -> None:
    """All commands that are needed then work: status, purge, replay, resume."""
    put(system, count=20, model=["no", "text"])
    system.start_pool(1)
    system.drained(within=40)
    system.sandbox.fault(auth=403)
    put(system, first=20)
    eventually(
        lambda: system.redis.hget(system.keys.birdfeed("destination:llm_events"), "paused") == b"1", what="a pause"
    )
    fill(system)
    system.sandbox.clear_faults()

    for command in (
        ("status", "--json"),
        ("ledger", "--json"),
        ("metrics",),
        ("resume", "llm_events"),
        ("dead", "list"),
        ("dead", "replay", "--reason", "invalid", "--limit", "5", "--set", "model=gpt-4o-mini"),
        ("dead", "purge", "--yes", "--reason", "invalid"),
        ("dead", "log"),
    ):
        done = system.run(*command)
        assert "Traceback" not in done.stderr, (command, done.stderr)
        assert done.returncode in ((0, 1) if command[0] in {"status", "ledger"} else (0,)), (command, done.stderr)
    system.drained(within=40)

    ledger = system.ledger()
    assert ledger["purged:text_generation"] == 15
    assert ledger["written:text_generation"] == N + 5
    assert system.dead() == []
