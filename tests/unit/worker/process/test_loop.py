"""The worker's own loop, in this process."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.settle import Totals
from birdfeed_worker.process import child
from birdfeed_worker.process import loop as module
from birdfeed_worker.process.bootstrap import make_worker
from birdfeed_worker.process.loop import Worker
from birdfeed_worker.queue.kinds import WrongKindError, kinds_of
from birdfeed_worker.queue.redis_time import redis_time
from birdfeed_worker.settings import WorkerSettings
from redis import Connection, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from rq.worker import Worker as StockWorker

from tests.support.events import envelope
from tests.support.wait import eventually
from tests.support.worker.dead import accept, events


@pytest.fixture
def worker(redis: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose store is away."""
    settings = WorkerSettings.model_validate(
        {"redis_url": valkey_url, "TINYBIRD_HOST": "http://127.0.0.1:1", "TINYBIRD_TOKEN": "t", "lease_seconds": 5}
    )
    made = make_worker(settings, "birdfeed-here-1-w1")
    monkeypatch.setattr(module, "REDIS_DOWN_WAIT", 0.0)
    monkeypatch.setattr(made, "_install_signal_handlers", lambda: None)
    return made


def test_a_registration_whose_answer_was_lost(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover at the worker's start: it is already registered when it tries again, and works."""
    beat, tries = worker._presence.beat, list[int]()

    def answered_too_late() -> None:
        beat()
        tries.append(1)
        if len(tries) == 1:
            raise RedisConnectionError("the answer was lost")

    monkeypatch.setattr(worker._presence, "beat", answered_too_late)

    assert worker.work(burst=True) is False
    assert len(tries) == 2


def test_a_worker_that_exits_by_an_error_gives_its_jobs_back_immediately(
    redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before rq's own clean-up deletes the set that lists them; they are suspects, and its entry is deleted."""
    job_id = accept(redis, keys, events(1))

    def boom(jobs: Sequence[ReservedJob], *more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(worker._delivery), "deliver", lambda self, *args: boom(*args))
    with pytest.raises(KeyboardInterrupt):
        worker.work(burst=True)

    assert redis.lrange(keys.queue_list, 0, -1) == [job_id.encode()]
    assert redis.hmget(keys.job(job_id), "status", "bf_suspect") == [b"queued", b"1"]
    assert (redis.zcard(keys.started), redis.smembers("rq:workers"), redis.exists(worker.key)) == (0, set(), 0)


def test_an_error_of_ours_doesnt_exit_the_worker(
    redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If even settling fails, the jobs wait, and don't go directly back to the queue's front."""
    accept(redis, keys, events(1))

    def boom(*args: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(type(worker._delivery), "deliver", boom)

    assert worker.work(burst=True) is True

    assert (redis.llen(keys.queue_list), redis.zcard(keys.scheduled), redis.zcard(keys.started)) == (0, 1, 0)


def test_a_long_delivery_sends_heartbeats(redis: Redis, keys: Keys, worker: Worker, monkeypatch: Any) -> None:
    """The thread that renews the lease sends heartbeats, and writes the worker's entry again if it is missing."""
    accept(redis, keys, events(1))
    busy, go_on = threading.Event(), threading.Event()

    def slow(delivery: Delivery, jobs: Sequence[ReservedJob], *more: Any) -> Totals:
        busy.set()
        assert go_on.wait(60)
        delivery.settler.put_off(jobs, redis_time(redis) + 60)
        return Totals()

    monkeypatch.setattr(Delivery, "deliver", slow)
    running = threading.Thread(target=worker.work, kwargs={"burst": True})
    running.start()
    try:
        assert busy.wait(60)
        first = redis.hget(worker.key, "last_heartbeat")
        redis.delete(worker.key)
        list(StockWorker.all(connection=redis))  # like `rq info`; it forgets workers without an entry
        eventually(lambda: redis.hget(worker.key, "state") == b"busy", what="the entry is there again")
        (state,) = read_status(redis, keys, redis_time(redis)).workers
        assert redis.hget(worker.key, "last_heartbeat") != first
        assert (state.host != "", state.pid > 0, state.in_flight, state.silent < 10) == (True, True, 1, True)
    finally:
        go_on.set()
        running.join(60)
    assert not running.is_alive()


def test_heartbeats_use_rediss_clock(redis: Redis, keys: Keys, worker: Worker) -> None:
    """A host whose clock is ten minutes wrong counts as running, and its work is counted."""
    worker._presence._clock._base -= 600

    worker._presence.count(3, 2)
    worker._presence.beat()
    worker._presence.beat()

    (state,) = read_status(redis, keys, redis_time(redis)).workers
    assert abs(state.silent) < 5
    assert redis.hmget(worker.key, "successful_job_count", "failed_job_count") == [b"3", b"2"]


def test_suspended_workers_wait(redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `rq suspend` nothing is reserved."""
    accept(redis, keys, events(1))
    redis.set("rq:suspended", 1)

    assert worker.work(burst=True) is False

    assert redis.llen(keys.queue_list) == 1


def test_a_suspended_worker_continues_when_resumed(
    redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It logs that it is suspended, and reserves the waiting jobs as soon as it may."""
    accept(redis, keys, events(1))
    redis.set("rq:suspended", 1)
    states: list[str] = []

    def sleep(clock: Clock, seconds: float) -> None:
        states.append(worker.get_state())
        redis.delete("rq:suspended")

    monkeypatch.setattr(Clock, "sleep", sleep)

    assert worker._reserve_jobs(burst=False) == []
    assert len(worker._reserve_jobs(burst=False)) == 1
    assert (states, worker.get_state()) == (["suspended"], "idle")


def test_reserving_takes_one_round_trip(
    redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If neither scheduled jobs nor leases nor maintenance are due."""
    worker._reserve_jobs(burst=True)
    worker._last_promote = worker._last_recover = worker._maintenance._next = float("inf")
    accept(redis, keys, events(1))
    sent: list[Any] = []
    send = Connection.send_packed_command

    def counted(self: Connection, command: Any, check_health: bool = True) -> None:
        sent.append(command)
        send(self, command, check_health)

    monkeypatch.setattr(Connection, "send_packed_command", counted)

    jobs = worker._reserve_jobs(burst=True)

    assert (len(jobs), len(sent)) == (1, 1)


def test_a_worker_without_launcher_gives_its_jobs_back(
    redis: Redis, keys: Keys, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launcher has exited and its delivery never ends: the jobs go back before the process exits."""
    job_id = accept(redis, keys, events(1))
    worker._reserver.reserve(jobs=1, events=10, size=10**6)
    done: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: done.append(signum))
    monkeypatch.setattr(os, "_exit", done.append)

    child.stop_alone(0.01, lambda: done.append(worker._reserver.recover(worker.name, died=False)))
    child.stop_alone(0.01, fail)

    assert done == [signal.SIGTERM, [job_id], 1, signal.SIGTERM, 1]
    assert redis.hget(keys.job(job_id), "bf_suspect") is None


def fail() -> None:
    raise RedisConnectionError("gone")


@contextmanager
def text_in_place_of(redis: Redis, key: str) -> Iterator[Callable[[], None]]:
    """Yields a function that restores the former value."""
    there = redis.exists(key)
    if there:
        redis.rename(key, f"{key}.aside")
    redis.set(key, "x")

    def repair() -> None:
        redis.delete(key)
        if there:
            redis.rename(f"{key}.aside", key)

    yield repair


#: Last parts of keys that only secondary functions read; the circuit breaker's windows count nothing then.
ON_NO_JOBS_WAY = frozenset(
    {
        "breaker-off",
        "costs",
        "dead-size",
        "image_events",
        "producers",
        "refused",
        "sampled",
        "samples",
        "spools",
    }
)


@pytest.mark.parametrize("name", sorted(kinds_of(Keys("rq", "birdfeed"))))
def test_text_in_place_of_another_kind(
    name: str,
    redis: Redis,
    keys: Keys,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In any key that all jobs share: the worker keeps running, nothing is lost, and status names the key."""
    job_id = accept(redis, keys, events(1))
    with text_in_place_of(redis, name) as repair:
        with pytest.raises(WrongKindError, match=f"{name} holds a text, not a [a-z ]+: another program"):
            read_status(redis, keys, redis_time(redis))
        said: list[str] = []

        def sleep(seconds: float) -> bool:
            """The worker waits for Redis: meanwhile an operator reads the log and fixes the key."""
            if not said:
                said.extend(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
                repair()
            return False

        monkeypatch.setattr(Clock, "sleep", lambda clock, seconds: sleep(seconds))
        worker.work(burst=True)

        if said:
            assert f"{name} holds a text" in said[-1]
        else:  # the job's data source is llm_events
            assert name.split(":")[-1] in {*ON_NO_JOBS_WAY, *registry()}
            repair()
    assert redis.zscore(keys.scheduled, job_id) is not None, "the store is away"
    assert (redis.llen(keys.queue_list), redis.zcard(keys.started), redis.zcard(keys.failed)) == (0, 0, 0)
    assert read_ledger(redis, keys).balanced


def test_dead_letters_while_their_registry_is_of_the_wrong_kind(redis: Redis, keys: Keys, worker: Worker) -> None:
    """Settling changes nothing then: an error in the middle would have deleted the job before its letter was kept."""
    accept(redis, keys, [envelope({"usage": 1})])
    jobs = worker._reserver.reserve(jobs=10, events=10, size=10**6)
    with text_in_place_of(redis, keys.failed) as repair:
        with pytest.raises(ResponseError, match=f"WRONGKIND {keys.failed} holds a string, not a zset"):
            worker._deliver(jobs)
        assert redis.exists(keys.job(jobs[0].id))
        repair()

    worker._deliver(worker._reserver.reserve(jobs=10, events=10, size=10**6))

    assert redis.zcard(keys.failed) == 1
    assert read_ledger(redis, keys).balanced
