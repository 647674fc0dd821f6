"""Leases: only one worker has a job, even if another is late, and the job goes back when its lease expires."""

import time
from datetime import UTC, datetime

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.model import Deferred, ReservedJob, Written
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler, Totals
from birdfeed_worker.queue import reserve as module
from birdfeed_worker.queue.redis_time import RedisTime, redis_time
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis

from tests.support.worker.dead import accept, events
from tests.support.worker.delivering import EVERYTHING, reserve_all


def settle(redis: Redis, keys: Keys, jobs: list[ReservedJob], name: str, outcome: Written | Deferred) -> Totals:
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = outcome
    return Settler(redis, keys, name).settle(jobs, decoded, datetime.fromtimestamp(redis_time(redis), UTC))


def run_out(redis: Redis, keys: Keys) -> None:
    """Let every lease expire."""
    for member, _ in redis.zscan_iter(keys.started):
        redis.zadd(keys.started, {member: time.time() - 1})


@pytest.mark.parametrize("status", ["queued", "started"])
def test_a_copy_of_a_job_whose_lease_expired(redis: Redis, keys: Keys, status: str) -> None:
    """rq's clean-up puts a copy back.

    The worker that reserves it has the job alone, and the late one can settle nothing.
    """
    job_id = accept(redis, keys, events(1))
    late = reserve_all(redis, keys, "wa")
    run_out(redis, keys)
    redis.hset(keys.job(job_id), "status", status)
    redis.rpush(keys.queue_list, job_id)

    (held,) = reserve_all(redis, keys, "wb")
    assert Reserver(redis, keys, "wc", 20).recover() == []
    assert reserve_all(redis, keys, "wc") == []
    assert Reserver(redis, keys, "wa", 20).renew(late) == 0
    assert settle(redis, keys, late, "wa", Written()).lost == 1
    assert Settler(redis, keys, "wa").mark(late[0].execution, [job_id]) == {job_id}
    assert settle(redis, keys, [held], "wb", Written()).written == 1
    assert redis.hget(keys.ledger, "written:text_generation") == b"1"
    assert Reserver(redis, keys, "wc", 20).recover() == []


def test_an_expired_lease_with_another_on_the_same_job(redis: Redis, keys: Keys) -> None:
    """As an older release left it: the expired one is deleted, the job stays where it is."""
    job_id = accept(redis, keys, events(1))
    (held,) = reserve_all(redis, keys, "wb")
    redis.zadd(keys.started, {f"{job_id}:old": 1})
    redis.hset(f"{keys.prefix}:execution:{job_id}:old", "worker_name", "wa")

    assert Reserver(redis, keys, "wc", 20).recover() == []

    assert redis.zrange(keys.started, 0, -1) == [f"{job_id}:{held.execution}".encode()]
    assert redis.hget(keys.job(job_id), "status") == b"started"


def test_the_fence_is_the_execution(redis: Redis, keys: Keys) -> None:
    """The same worker reserved the job again: its earlier execution can settle and mark nothing."""
    job_id = accept(redis, keys, events(1))
    first = reserve_all(redis, keys)
    again = reserve_all(redis, keys)

    assert settle(redis, keys, first, "w1", Written()).lost == 1
    assert Settler(redis, keys, "w1").mark(first[0].execution, [job_id]) == {job_id}
    assert settle(redis, keys, again, "w1", Written()).written == 1


def test_one_lost_job_does_not_affect_the_others_of_a_step(redis: Redis, keys: Keys) -> None:
    """The step is repeated without it."""
    ids = [accept(redis, keys, events(1)) for _ in range(3)]
    jobs = reserve_all(redis, keys)
    redis.hset(keys.job(ids[1]), "worker_name", "other")
    assert Settler(redis, keys, "w1").mark(jobs[0].execution, ids) == {ids[1]}

    totals = settle(redis, keys, jobs, "w1", Written())

    assert (totals.written, totals.lost) == (2, 1)
    assert [redis.exists(keys.job(one)) for one in ids] == [0, 1, 0]


def test_recovery_takes_nothing_from_another(redis: Redis, keys: Keys) -> None:
    """A worker's set may name a job that another worker has now."""
    job_id = accept(redis, keys, events(1))
    (late,) = reserve_all(redis, keys, "wa")
    redis.hset(keys.job(job_id), "worker_name", "wb")

    assert Reserver(redis, keys, "", 20).recover("wa") == []

    assert redis.hget(keys.job(job_id), "status") == b"started"
    assert redis.exists(f"{keys.prefix}:execution:{job_id}:{late.execution}") == 0


def test_a_lost_lease_is_not_created_again(redis: Redis, keys: Keys) -> None:
    """Only existing leases are renewed."""
    accept(redis, keys, events(1))
    jobs = reserve_all(redis, keys, "wa")
    Reserver(redis, keys, "", 20).recover("wa")

    assert Reserver(redis, keys, "wa", 20).renew(jobs) == 0

    assert redis.zcard(keys.started) == 0


def test_renewing_moves_the_expiry(redis: Redis, keys: Keys) -> None:
    """By Redis's clock."""
    accept(redis, keys, events(1))
    jobs = reserve_all(redis, keys, "wa")
    run_out(redis, keys)

    Reserver(redis, keys, "wa", 20).renew(jobs)

    end = redis.zscore(keys.started, f"{jobs[0].id}:{jobs[0].execution}")
    assert end == pytest.approx(redis_time(redis) + 20, abs=5)
    assert float(redis.hget(f"{keys.prefix}:execution:{jobs[0].id}:{jobs[0].execution}", "last_heartbeat") or 0) > 0


@pytest.mark.parametrize(("died", "suspect"), [(True, 1), (False, 0)])
def test_only_a_crash_makes_suspects(redis: Redis, keys: Keys, died: bool, suspect: int) -> None:
    """Not the stop of a worker."""
    accept(redis, keys, events(1))
    reserve_all(redis, keys, "wa")

    Reserver(redis, keys, "", 20).recover("wa", died=died)

    assert [job.suspect for job in reserve_all(redis, keys, "wb")] == [suspect]


def test_a_delivered_job_is_no_longer_a_suspect(redis: Redis, keys: Keys) -> None:
    """With any result; a suspect that was deferred untried still is one, and keeps its mark."""
    accept(redis, keys, events(1))
    reserve_all(redis, keys, "wa")
    Reserver(redis, keys, "", 20).recover("wa")
    jobs = reserve_all(redis, keys, "wb")
    settler = Settler(redis, keys, "wb")
    settler.mark(jobs[0].execution, [jobs[0].id])
    jobs = settler.with_marks(jobs)

    settler.put_off(jobs, redis_time(redis) - 1)
    Reserver(redis, keys, "", 20).promote()
    (again,) = reserve_all(redis, keys, "wb")
    assert again.suspect == 1
    assert again.maybe_written_since == pytest.approx(time.time(), abs=60)
    settle(redis, keys, [again], "wb", Deferred())

    (free,) = reserve_all(redis, keys, "wb")
    assert (free.suspect, free.maybe_written_since) == (0, None), "settled without a doubt: neither suspect nor marked"


@pytest.mark.parametrize(
    ("limits", "taken"),
    [({"jobs": 2}, 2), ({"events": 5}, 2), ({"size": 2_000}, 2), ({}, 4)],
    ids=["jobs", "events", "bytes", "none"],
)
def test_each_limit_of_a_reservation(redis: Redis, keys: Keys, limits: dict[str, int], taken: int) -> None:
    """Jobs over the limit stay at the queue's front."""
    ids = [accept(redis, keys, events(2)) for _ in range(4)]
    for job_id in ids:
        redis.hset(keys.job(job_id), "bf_bytes", 900)

    jobs = Reserver(redis, keys, "w1", 20).reserve(**{**EVERYTHING, **limits})

    assert [job.id for job in jobs] == ids[:taken]
    assert redis.lrange(keys.queue_list, 0, -1) == [one.encode() for one in ids[taken:]]


def test_entries_without_a_job_dont_block_redis(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them in each step, until a job is found."""
    redis.rpush(keys.queue_list, *(f"gone-{n}" for n in range(25)))
    job_id = accept(redis, keys, events(1))
    monkeypatch.setattr(module, "ENTRIES", 10)
    redis.config_resetstat()

    assert [job.id for job in reserve_all(redis, keys)] == [job_id]

    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    assert redis.llen(keys.queue_list) == 0


def test_leases_are_given_back_in_parts(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in order, in several steps."""
    ids = [accept(redis, keys, events(1)) for _ in range(7)]
    reserve_all(redis, keys)
    run_out(redis, keys)
    monkeypatch.setattr(module, "LEASES", 3)

    assert sorted(Reserver(redis, keys, "w2", 20).recover()) == sorted(ids)


def test_a_clock_that_is_wrong(redis: Redis) -> None:
    """Redis's time is used, however wrong this machine's clock is."""
    clock = RedisTime()
    assert clock.time() == pytest.approx(time.time(), abs=5), "before Redis was asked, this machine's"
    clock._base += 600
    assert clock.time() > redis_time(redis) + 590

    clock.set(redis)

    assert clock.time() == pytest.approx(redis_time(redis), abs=1)


def test_a_slow_answer_doesnt_set_the_clock_twice(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time may be that of the request or of the answer; but for the first one it is better than none."""
    clock = RedisTime()
    monkeypatch.setattr("birdfeed_worker.queue.redis_time.QUICK", -1.0)
    clock._base += 600

    clock.set(redis)
    base = clock._base
    clock.set(redis)

    assert clock.time() == pytest.approx(redis_time(redis), abs=1)
    assert clock._base == base


def test_what_a_worker_has_from_an_earlier_reservation(redis: Redis, keys: Keys) -> None:
    """Jobs that it still has go back and are reserved again; jobs that it lost meanwhile are not changed."""
    own, lost, done, others = (accept(redis, keys, events(1)) for _ in range(4))
    jobs = {job.id: job for job in reserve_all(redis, keys, "w1")}
    redis.zrem(keys.started, f"{lost}:{jobs[lost].execution}")
    redis.hset(keys.job(done), "status", "finished")
    redis.zadd(keys.started, {f"{others}:of-w2": time.time() + 60})
    redis.zadd(f"{keys.prefix}:executions:{others}", {"of-w2": time.time() + 60})

    (again,) = reserve_all(redis, keys, "w1")

    assert (again.id, again.attempts) == (own, 2)
    assert redis.hget(keys.job(own), "status") == b"started"
    assert redis.hget(keys.job(lost), "status") == b"started"
    assert redis.hget(keys.job(done), "status") == b"finished"
    assert redis.hget(keys.job(others), "worker_name") == b"w1"
    assert redis.llen(keys.queue_list) == 0
    held = {own.encode() + b":" + again.execution.encode(), f"{others}:of-w2".encode()}
    assert held <= set(redis.zrange(keys.started, 0, -1))
    members = redis.smembers(f"{keys.prefix}:worker:w1:executions")
    assert members <= {f"{own}:{again.execution}".encode(), f"{done}:{jobs[done].execution}".encode()}


def test_a_job_that_goes_back_is_queued(redis: Redis, keys: Keys) -> None:
    """Also if this reservation has no room for it."""
    ids = [accept(redis, keys, events(1)) for _ in range(2)]
    reserve_all(redis, keys, "w1")

    taken = Reserver(redis, keys, "w1", 20).reserve(jobs=1, events=10, size=10**6)

    (left,) = set(ids) - {job.id for job in taken}
    assert redis.hget(keys.job(left), "status") == b"queued"
    assert redis.lrange(keys.queue_list, 0, -1) == [left.encode()]


def test_a_repeated_reservation_is_leased_again(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on: the first answer may have been lost some time ago."""
    accept(redis, keys, events(1))
    monkeypatch.setattr(module, "uuid4", lambda: type("Fixed", (), {"hex": "e1"}))
    (job,) = reserve_all(redis, keys, "w1")
    run_out(redis, keys)

    assert [one.id for one in reserve_all(redis, keys, "w1")] == [job.id]

    assert (redis.zscore(keys.started, f"{job.id}:e1") or 0) > time.time()


def test_a_job_that_is_no_longer_started_is_lost(redis: Redis, keys: Keys) -> None:
    """Another tool changed it while the worker had it: the worker settles nothing of it."""
    job_id = accept(redis, keys, events(1))
    jobs = reserve_all(redis, keys)
    redis.hset(keys.job(job_id), "status", "queued")

    assert settle(redis, keys, jobs, "w1", Written()).lost == 1

    assert redis.exists(keys.job(job_id))


@pytest.mark.parametrize("status", ["finished", "canceled", "stopped", "deferred"])
def test_an_entry_of_a_finished_job(redis: Redis, keys: Keys, status: str) -> None:
    """Another tool ended it and left its entry in the queue: it is not processed, and not changed."""
    job_id = accept(redis, keys, events(1))
    redis.hset(keys.job(job_id), "status", status)

    assert reserve_all(redis, keys) == []

    assert (redis.llen(keys.queue_list), redis.hget(keys.job(job_id), "status")) == (0, status.encode())


@pytest.mark.parametrize("registry", ["scheduled", "failed"])
def test_a_queued_job_is_used_wherever_else_it_is_listed(redis: Redis, keys: Keys, registry: str) -> None:
    """Its status says that it waits; an entry in another registry doesn't prevent its delivery."""
    job_id = accept(redis, keys, events(1))
    redis.zadd(f"{keys.prefix}:{registry}:{keys.queue}", {job_id: 9e9})

    assert [job.id for job in reserve_all(redis, keys)] == [job_id]


def test_an_entry_of_a_job_that_waits_elsewhere(redis: Redis, keys: Keys) -> None:
    """A copied entry of a scheduled job, or of a dead letter, is dropped."""
    for registry, status in ((keys.scheduled, "scheduled"), (keys.failed, "failed")):
        job_id = accept(redis, keys, events(1))
        redis.hset(keys.job(job_id), "status", status)
        redis.zadd(registry, {job_id: 9e9})

    assert reserve_all(redis, keys) == []

    assert redis.zcard(keys.scheduled) == redis.zcard(keys.failed) == 1


def test_a_repeated_reservation_is_not_extended(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same, whatever was enqueued meanwhile."""
    first = accept(redis, keys, events(1))
    monkeypatch.setattr(module, "uuid4", lambda: type("Fixed", (), {"hex": "e1"}))
    reserve_all(redis, keys, "w1")
    accept(redis, keys, events(1))

    assert [job.id for job in reserve_all(redis, keys, "w1")] == [first]


def unknown(redis: Redis, keys: Keys, since: float) -> ReservedJob:
    """Reserve the only job and settle it as unknown since then; returns the job as the next worker gets it."""
    jobs = reserve_all(redis, keys)
    settle(redis, keys, jobs, "w1", Deferred(0.0, since))
    (job,) = reserve_all(redis, keys)
    settle(redis, keys, [job], "w1", Deferred(0.0, job.maybe_written_since))
    return job


@pytest.mark.parametrize(
    ("taken_at", "unknowns", "spent"),
    [(1_600_000_050.0, 1, 100.0), (1_599_999_999.0, 0, 0.0), (None, 0, 0.0)],
    ids=["others were taken since", "others were taken before", "nobody knows"],
)
def test_a_second_unknown_outcome(
    redis: Redis, keys: Keys, taken_at: float | None, unknowns: int, spent: float
) -> None:
    """It is counted for the job only if its destination accepted other rows since the last try."""
    accept(redis, keys, events(1))
    if taken_at is not None:
        redis.hset(keys.birdfeed("destination:llm_events"), "last_success", str(taken_at))

    first = unknown(redis, keys, 1_600_000_000.0)
    again = unknown(redis, keys, 1_600_000_100.0)

    assert (first.unknowns, first.spent, first.maybe_written_since) == (0, 0.0, 1_600_000_000.0)
    assert (again.unknowns, again.spent, again.maybe_written_since) == (unknowns, spent, 1_600_000_100.0)


def test_a_job_with_a_known_outcome_is_not_marked(redis: Redis, keys: Keys) -> None:
    """Settling clears the mark if nothing of the job can have been written."""
    accept(redis, keys, events(1))
    jobs = reserve_all(redis, keys)
    Settler(redis, keys, "w1").mark(jobs[0].execution, [jobs[0].id])

    settle(redis, keys, jobs, "w1", Deferred())

    assert redis.hmget(keys.job(jobs[0].id), "bf_posted", "bf_unknown_at") == [None, None]
