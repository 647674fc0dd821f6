"""The two watchdogs of a worker: its own for the delivery, and the launcher's for the process.

Both log stack traces.
"""

import os
import subprocess
import sys
import time
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.process.heartbeat import STALLED, Heartbeat
from birdfeed_worker.process.launcher import SILENT_SECONDS, Child, Pool, kill_with_stacks
from birdfeed_worker.process.presence import Presence
from birdfeed_worker.queue.redis_time import RedisTime
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.wait import eventually
from tests.support.worker.dead import accept, events

#: A worker in native code that never ends and never lets another thread run.
HOG = """
import faulthandler, re, signal, sys
faulthandler.register(signal.SIGUSR1, all_threads=True)
def look_for_ever():
    print("ready", flush=True)
    re.match("(a|aa)+$", "a" * 10_000 + "b")
look_for_ever()
"""

#: A worker whose delivery makes no progress.
STALL = """
import threading
from birdfeed_worker.process.heartbeat import Heartbeat
class Nothing:
    def __getattr__(self, name): return lambda *a: None
heartbeat = Heartbeat(Nothing(), Nothing(), 0.05, stall_seconds=0.2)
heartbeat.watch([object()])
heartbeat.start()
def wait_for_ever():
    threading.Event().wait()
wait_for_ever()
"""


def heartbeat_of(redis: Redis, keys: Keys, lease: int = 20, **fields: Any) -> Heartbeat:
    presence = Presence(redis, keys, "w1", RedisTime())
    return Heartbeat(Reserver(redis, keys, "w1", lease), presence, **{"every": 0.02, **fields})


def reserved(redis: Redis, keys: Keys) -> list[ReservedJob]:
    accept(redis, keys, events(1))
    return Reserver(redis, keys, "w1", 20).reserve(jobs=1, events=10, size=10**6)


def hog() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_delivery_without_progress_exits_the_worker() -> None:
    """With its own exit code, and with the stack of each thread."""
    done = subprocess.run([sys.executable, "-c", STALL], capture_output=True, timeout=60, check=False)

    assert done.returncode == STALLED
    assert b"wait_for_ever" in done.stderr
    assert b"no progress for" in done.stderr


def test_a_delivery_with_progress_continues(redis: Redis, keys: Keys) -> None:
    """However long it takes; and a worker without jobs may be idle for ever."""
    stalls: list[int] = []
    heartbeat = heartbeat_of(redis, keys, stall_seconds=0.5, stalled=lambda: stalls.append(1))
    heartbeat.start()
    try:
        eventually(lambda: redis.exists("rq:worker:w1"), what="a heartbeat")
        heartbeat._last_step -= 10
        seen = redis.hget("rq:worker:w1", "last_heartbeat")
        eventually(lambda: redis.hget("rq:worker:w1", "last_heartbeat") != seen, what="the next one")
        assert stalls == [], "nothing in flight"
        heartbeat.watch(reserved(redis, keys))
        began = time.monotonic()

        def stepping() -> bool:
            heartbeat.step()
            return time.monotonic() - began > 1.0

        eventually(stepping, what="longer than the stall")
        assert stalls == []
        eventually(lambda: stalls, what="no step any more", within=20)
    finally:
        heartbeat.end()


def test_leases_are_renewed(redis: Redis, keys: Keys) -> None:
    """While jobs are in flight, and no longer."""
    jobs = reserved(redis, keys)
    member = f"{jobs[0].id}:{jobs[0].execution}"
    redis.zadd(keys.started, {member: 1})
    heartbeat = heartbeat_of(redis, keys)
    heartbeat.start()
    try:
        heartbeat.watch(jobs)
        eventually(lambda: (redis.zscore(keys.started, member) or 0) > time.time(), what="the lease is renewed")
        heartbeat.watch([])
        eventually(lambda: redis.hget("rq:worker:w1", "state") == b"started", what="it lives")
    finally:
        heartbeat.end()
    assert not heartbeat.is_alive()


def test_a_failed_renewal_doesnt_stop_the_other(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed where the worker's entry can't be written, and the reverse."""
    jobs = reserved(redis, keys)
    member = f"{jobs[0].id}:{jobs[0].execution}"
    heartbeat = heartbeat_of(redis, keys)

    def fail(*args: Any) -> None:
        raise RedisConnectionError("gone")

    heartbeat.watch(jobs)
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat._presence, "beat", fail)
        redis.zadd(keys.started, {member: 1})
        heartbeat._look()
    assert (redis.zscore(keys.started, member) or 0) > time.time()
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat._renewer, "renew", fail)
        heartbeat._look()
    assert redis.exists("rq:worker:w1")


def test_a_worker_sends_heartbeats_to_the_launcher(redis: Redis, keys: Keys) -> None:
    """One byte for each heartbeat, through the pipe."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    child = Child(beat_fd=read, last_beat=100.0)
    heartbeat = heartbeat_of(redis, keys, beat_fd=write)
    try:
        assert not Pool._silent(child, 100.0 + SILENT_SECONDS)
        assert Pool._silent(child, 101.0 + SILENT_SECONDS)
        heartbeat.start()
        eventually(lambda: not Pool._silent(child, 101.0 + SILENT_SECONDS), what="a byte")
    finally:
        heartbeat.end()
        os.close(read)
        os.close(write)


def test_native_code_that_never_returns_leaves_its_stack() -> None:
    """The worker is killed after it wrote its stack."""
    process = hog()

    kill_with_stacks(process)

    assert process.returncode == -9
    assert process.stderr is not None
    with process.stderr as said:
        assert b"look_for_ever" in said.read()
    assert process.stdout is not None
    process.stdout.close()


def test_a_silent_worker_is_killed_and_its_jobs_are_given_back(redis: Redis, keys: Keys, valkey_url: str) -> None:
    """Immediately, as suspects; another worker is scheduled to replace it."""
    (job,) = reserved(redis, keys)
    settings = WorkerSettings.model_validate({"redis_url": valkey_url})
    pool = Pool(settings, redis, keys)
    read, write = os.pipe()
    os.set_blocking(read, False)
    process = hog()
    child = Child(process=process, beat_fd=read, last_beat=1_000.0, name="w1", started=1_000.0)

    pool._look_after(child, 1_000.0 + SILENT_SECONDS)
    assert process.poll() is None
    pool._look_after(child, 1_001.0 + SILENT_SECONDS)

    assert process.returncode == -9
    assert (child.process, child.failures) == (None, 1)
    assert redis.lrange(keys.queue_list, 0, -1) == [job.id.encode()]
    assert redis.hget(keys.job(job.id), "bf_suspect") == b"1"
    os.close(write)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
