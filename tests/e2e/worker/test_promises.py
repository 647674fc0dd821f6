"""The promises of docs/explanation/promises.md from the worker's side, row by row, each test is named after its fault.

Real Valkey, real workers, the sandbox Tinybird over HTTP; each ends with every event in the store once (or in the dead
letter that the row says) and with the ledger.

Longer than other files: the page is one list, and its tests share one system that is started once for all of them.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.keys import Keys

from tests.support.events import enqueue, envelope, text
from tests.support.producer.apps.run import Server
from tests.support.servers.system import System
from tests.support.wait import eventually, pause
from tests.support.worker.skewed_clock import skewed

N = 60
ALL = {f"r{number}": 1 for number in range(N)}


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    sandbox.sql("SYSTEM STOP MERGES")
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        yield system


@pytest.fixture(scope="module")
def standing(sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker on a Valkey of its own for all tests here that don't change its settings."""
    folder = tmp_path_factory.mktemp("standing")
    with Server(folder / "valkey") as redis, System(redis.url, sandbox_process, folder) as system:
        system.environment["BIRDFEED_READ_TIMEOUT"] = "4"
        system.start_pool(1)
        yield system


@pytest.fixture
def working(standing: System, sandbox: Sandbox) -> Iterator[System]:
    """The shared system, with nothing in the queue, the store or the ledger."""
    sandbox.sql("SYSTEM STOP MERGES")
    standing.log.write_text("")
    yield standing
    sandbox.clear_faults()
    try:
        standing.drained(within=120)
    finally:  # what a failed test leaves must not fail the next one
        standing.redis.flushall()


def put(system: System, count: int = N, **fields: Any) -> None:
    """Events in jobs of ten, as a producer enqueues them; the ledger counts them."""
    for start in range(0, count, 10):
        enqueue(system.redis, system.keys, [
            envelope(text(request_id=f"r{number}", **fields)) for number in range(start, min(count, start + 10))
        ])  # fmt: skip
    system.redis.hincrby(system.keys.ledger, "accepted:text_generation", count)


def all_written_once(system: System, dead: int = 0) -> None:
    """Every event is in the store once, and the ledger says so."""
    system.drained(within=120)
    rows = system.rows()
    assert rows == {one: 1 for one in ALL if one not in system.dead_ids()}
    assert len(rows) == N - dead
    ledger = system.ledger()
    assert ledger["accepted:text_generation"] == N
    assert ledger["written:text_generation"] == N - dead


def test_worker_killed_before_the_post(system: System) -> None:
    """The limiter delays the request; the worker is killed while it waits; another one sends it."""
    system.start_pool(1)
    destination = system.keys.birdfeed("destination:llm_events")
    system.redis.hset(destination, mapping={"next_request": str(time.time() + 3)})
    put(system)
    eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
    system.kill_a_worker()

    all_written_once(system)


def test_worker_killed_during_the_post(system: System) -> None:
    """The rows are written although the worker was killed: the next one queries the store before it sends."""
    system.sandbox.fault(answer_delay_seconds=10.0)
    put(system)
    system.start_pool(1)
    eventually(lambda: system.rows(), what="rows are written")
    system.kill_a_worker()
    system.sandbox.clear_faults()

    all_written_once(system)
    assert len([r for r in posts(system) if r["rows"]]) == 1


def test_worker_killed_after_the_answer(system: System) -> None:
    """Redis hangs while the worker settles: it is killed, its lease expires, and nothing is written twice."""
    put(system)
    pid = int(system.redis.info("server")["process_id"])
    system.sandbox.fault(answer_delay_seconds=1.0)
    system.start_pool(1)
    eventually(lambda: system.rows(), what="rows are written")
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: any(post["answered_at"] for post in posts(system)), what="the store has answered")
        for worker in worker_pids(system):
            os.kill(worker, signal.SIGKILL)
    finally:
        os.kill(pid, signal.SIGCONT)
    system.sandbox.clear_faults()

    all_written_once(system)


def worker_pids(system: System) -> list[int]:
    """Process ids of the pools' children, from the operating system, for when Redis doesn't answer."""
    found = []
    for pool in system.pools:
        children = Path(f"/proc/{pool.pid}/task/{pool.pid}/children")
        found += [int(pid) for pid in children.read_text().split()]
    return found


def posts(system: System) -> list[dict[str, Any]]:
    """The write requests to the store so far."""
    return [entry for entry in system.sandbox.state()["log"] if entry["path"].startswith("/v0/events")]


def test_redis_restarted(sandbox: Sandbox, tmp_path: Path) -> None:
    """kill -9 of Redis with jobs queued and in flight, and its restart from the append-only file."""
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        sandbox.fault(answer_delay_seconds=2.0)
        system.start_pool(2)
        put(system)
        eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
        redis.kill()
        redis.start()
        sandbox.clear_faults()

        all_written_once(system)
        assert len(system.workers()) >= 2


@pytest.mark.parametrize("status", [429, 503])
def test_429_503(working: System, status: int) -> None:
    """Nothing was written: the whole pool waits as long as Retry-After says, without a request meanwhile."""
    working.sandbox.fault(status=status, retry_after=2, times=1)
    put(working)

    all_written_once(working)
    asked = posts(working)
    assert asked[1]["time"] - asked[0]["time"] >= 2.0


UNKNOWN: dict[str, dict[str, Any]] = {
    "500, written": {"commit_then_status": 500},
    "502, written": {"commit_then_status": 502},
    "504, written": {"commit_then_status": 504},
    "408, written": {"commit_then_status": 408},
    "500, not written": {"status": 500},
    "timeout, written": {"commit_then_hang": 20},
    "reset, not written": {"reset": "before"},
    "reset, written": {"reset": "after"},
    "reset in the middle of the answer": {"reset_mid_answer": True},
    "422, partly written": {"partly_written": 0.5},
    "202, lost": {"vanish": 202},
    "short count, all written": {"short_count": 1},
    "short count, the rest lost": {"short_count": 1, "short_count_writes": "counted"},
    "200 that is not JSON": {"not_json": True},
    "504, written later": {"late_commit_seconds": 0.7, "late_commit_status": 504},
}


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_outcomes(working: System, fault: dict[str, Any]) -> None:
    """Some, all or none of the rows may be written: after settle_seconds the store is queried, and the rest sent."""
    working.sandbox.fault(**fault, times=1)
    put(working)

    all_written_once(working)


def test_a_commit_later_than_settle_seconds(working: System) -> None:
    """It can't be known in time: these rows are written twice, and a query with FINAL counts them once."""
    working.sandbox.fault(late_commit_seconds=15.0, late_commit_status=504, times=1)
    put(working)
    working.drained()
    eventually(lambda: sum(working.rows().values()) > len(ALL), what="the late rows")
    rows = working.rows()
    (counted,) = working.sandbox.sql("SELECT toUInt32(count()) AS n FROM llm_events FINAL")

    print(f"{sum(rows.values()) - len(rows)} rows twice")
    assert set(rows) == set(ALL)
    assert set(rows.values()) <= {1, 2}
    assert int(counted["n"]) == len(ALL)
    assert working.ledger()["written:text_generation"] == len(ALL)


def test_400_for_a_batch(working: System) -> None:
    """Only the bad row is dead-lettered, with the store's reason."""
    working.sandbox.fault(status=400, body='{"error": "bad row"}', poison='"request_id":"r31"')
    put(working)

    all_written_once(working, dead=1)
    assert [(letter.reason, letter.detail) for letter in working.dead()] == [("rejected", "HTTP 400: bad row")]
    assert working.dead_ids() == ["r31"]


def test_400_whatever_is_sent(working: System) -> None:
    """No row is the cause: the data source pauses, no event is dead-lettered, and fixing the store is enough."""
    working.sandbox.fault(status=400)
    put(working)
    eventually(lambda: "every request is refused" in working.said(), what="the pause is in the log")
    assert working.dead() == []
    working.sandbox.clear_faults()

    all_written_once(working)


def test_413(working: System) -> None:
    """Halved until it fits."""
    working.sandbox.fault(max_body_bytes=20_000)
    put(working)

    all_written_once(working)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_401_403_404(working: System, status: int) -> None:
    """The data source pauses and its jobs are deferred; the other one continues; one request at a time probes."""
    working.sandbox.fault(auth=status, datasource="llm_events")
    put(working)
    image = envelope({"model": "flux", "request_id": "image"}, "image_generation")
    enqueue(working.redis, working.keys, [image])
    eventually(lambda: working.rows() == {"image": 1}, what="the other data source goes on")
    llm = working.keys.birdfeed("destination:llm_events")
    eventually(lambda: working.redis.hget(llm, "paused") == b"1", what="the data source is paused")
    assert working.dead() == []
    working.sandbox.clear_faults()

    working.drained()
    assert working.rows() == {**ALL, "image": 1}


def test_quarantined_rows(working: System) -> None:
    """Found by id in the quarantine, dead-lettered with the store's reason, never sent again without a replay."""
    working.sandbox.fault(quarantine_rows={"path": "$.request_id", "equals": "r7"})
    put(working)

    all_written_once(working, dead=1)
    assert [letter.reason for letter in working.dead()] == ["quarantined"]
    assert working.dead_ids() == ["r7"]
    assert sum(post["rows"] for post in posts(working)) == N


@pytest.mark.parametrize(("usage", "status"), [({"prompt_tokens": 9}, "unpriced"), (None, "no_usage")])
def test_unknown_model_and_missing_usage_are_not_dead_lettered(
    working: System, usage: dict[str, int] | None, status: str
) -> None:
    """The row is written with that status."""
    put(working, model="nobody-knows-it", model_used="nobody-knows-it", usage=usage)

    all_written_once(working)
    assert working.rows("cost_status") == {status: N}


@pytest.mark.parametrize("seconds", [600, -600])
def test_hosts_whose_clocks_differ(system: System, seconds: int) -> None:
    """One verifies what the other may have written by Redis's clock, not by its own: not too early, and not never."""
    system.sandbox.fault(late_commit_seconds=0.7, late_commit_status=504, times=1)
    put(system)
    first = system.start_pool(1)
    eventually(lambda: system.redis.zcard(system.keys.scheduled), what="the outcome is unknown")
    first.terminate()
    first.wait(60)
    system.start_pool(1, environment=skewed(system.folder, seconds))

    all_written_once(system)
    state = json.loads(system.run("status", "--json").stdout)
    assert [abs(worker["silent"]) < 30 for worker in state["workers"]] == [True]


def test_a_host_is_lost(system: System) -> None:
    """No process is left to give its jobs back: they are free when its lease has expired."""
    system.sandbox.fault(answer_delay_seconds=30)
    put(system)
    lost = system.start_pool(1)
    eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
    pids = worker_pids(system)
    lost.send_signal(signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    system.sandbox.clear_faults()
    system.start_pool(1)

    try:
        all_written_once(system)
    finally:
        lost.kill()
        lost.wait()


def test_an_enqueue_whose_answer_was_lost(working: System) -> None:
    """The producer sends the batch again, marked: what the first one enqueued is neither written nor counted twice."""
    events = [envelope(text(request_id=f"r{number}")) for number in range(N)]
    for retried in (False, True):
        enqueue(working.redis, working.keys, events, retried=retried)
        working.redis.hincrby(working.keys.ledger, "accepted:text_generation", N)
        working.drained()

    all_written_once(working)


def test_a_rolling_deploy(system: System) -> None:
    """Jobs of a newer wire version wait for a newer worker without a counted attempt; the others are delivered."""
    newer = enqueue(system.redis, system.keys, [envelope(text(request_id="newer"))], version=2)
    put(system)
    system.start_pool(1)
    eventually(lambda: system.rows() == ALL, what="our own version's events are written")

    def waiting() -> bool:
        return bool(system.redis.zrange(system.keys.scheduled, 0, -1) == [newer.encode()])

    eventually(waiting, what="the newer one is put off")  # both are settled after the rows are in the store
    assert system.dead() == []


def test_redis_that_can_lose_events_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    """Eviction and a missing append-only file are logged at the start."""
    config = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with Server(tmp_path / "valkey", **config) as redis, System(redis.url, sandbox, tmp_path) as system:
        system.start_pool(1)

        assert "Redis evicts keys when it is full (maxmemory-policy allkeys-lru)" in system.said()
        assert "Redis keeps no append-only file" in system.said()


def test_redis_that_refuses_to_write(sandbox: Sandbox, tmp_path: Path) -> None:
    """READONLY: workers wait and continue by themselves; none exits, none loops without a pause."""
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        sandbox.fault(answer_delay_seconds=2.0)
        system.start_pool(2)
        put(system)
        pids = set(system.workers().values())
        eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
        system.redis.replicaof("127.0.0.1", 1)
        eventually(lambda: "trying again" in system.said(), what="a worker says so", within=120)
        system.redis.replicaof("NO", "ONE")
        sandbox.clear_faults()

        all_written_once(system)
        assert set(system.workers().values()) == pids
        assert system.said().count("trying again") < 60


def stop_workers(system: System, times: int) -> None:
    """SIGTERM at random moments while jobs keep coming; no worker hangs, no job is orphaned."""
    draw = random.Random(7)
    system.start_pool(2)
    for number in range(times):
        for _ in range(draw.randint(1, 5)):
            enqueue(system.redis, system.keys, [envelope(text(request_id=f"s{number}-{draw.random()}"))])
        pid = draw.choice(eventually(lambda: sorted(system.workers().values()), what="a worker is there"))
        pause(draw.uniform(0, 0.05))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: pid not in system.workers().values(), what="the worker stopped", within=60)  # noqa: B023
    system.drained()
    rows = system.rows()
    assert set(rows.values()) == {1}
    assert system.dead() == []
    assert rows.total() == system.ledger()["written:text_generation"]


def test_a_second_signal_exits_immediately(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """The worker doesn't wait for the store's answer; the next workers verify and finish the jobs in flight."""
    sandbox.sql("SYSTEM STOP MERGES")
    with System(valkey_url, sandbox, tmp_path, BIRDFEED_READ_TIMEOUT="120", BIRDFEED_STOP_TIMEOUT="120") as system:
        system.redis.flushall()
        sandbox.fault(answer_delay_seconds=60.0, times=1)
        put(system)
        pool = system.start_pool(1)
        eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
        pool.terminate()
        eventually(lambda: "stopping" in system.said(), what="it has heard the first")
        pool.terminate()
        assert pool.wait(60) == 0
        assert system.redis.zcard(system.keys.started) == 0
        sandbox.clear_faults()
        system.start_pool(1)

        all_written_once(system)


def test_sigterm_many_times(system: System) -> None:
    """Workers get SIGTERM at random moments under load: no job is orphaned, no worker hangs."""
    system.sandbox.fault(delay_seconds=0.05)
    stop_workers(system, 8)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_sigterm_two_hundred_and_fifty_times(system: System) -> None:
    """The same, often enough to reach rare moments."""
    system.sandbox.fault(delay_seconds=0.05)
    stop_workers(system, 250)


def test_keys_are_rqs_own() -> None:
    """The producer computes the keys that rq uses."""
    from rq import Queue
    from rq.job import Job
    from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry

    keys = Keys("rq", "birdfeed")
    assert keys.queue_list == Queue.redis_queue_namespace_prefix + "birdfeed"
    assert keys.queues == Queue.redis_queues_keys
    assert keys.job("x") == Job.key_for("x")
    assert keys.started == StartedJobRegistry.key_template.format("birdfeed")
    assert keys.scheduled == ScheduledJobRegistry.key_template.format("birdfeed")
    assert keys.failed == FailedJobRegistry.key_template.format("birdfeed")
