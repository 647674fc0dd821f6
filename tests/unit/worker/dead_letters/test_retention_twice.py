"""Retention measures before it purges, and ignores outdated measurements; a letter without a time isn't old."""

import time

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import entries, note
from birdfeed_worker.dead_letters.retention import OVERHEAD_BYTES, Caps, Retention
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from tests.support.worker.dead import accept, bury, events

BY_DEFAULT = Caps(500_000_000, 30 * 86_400.0)


def whole_round(retention: Retention) -> None:
    while retention.step() and retention._round is not None:
        pass


def letters_of_their_own(redis: Redis, keys: Keys, count: int) -> int:
    """Create so many letters of one event, each of another kind; returns the bytes of one."""
    for number in range(count):
        letters = bury(redis, keys, events(1), detail=f"{chr(97 + number % 26) * (1 + number // 26)}: missing")
    return OVERHEAD_BYTES + redis.hstrlen(keys.job(letters[0].id), "data")


@pytest.mark.parametrize("lease_of_b", [True, False], ids=["somebody has the lease", "nobody has it"])
def test_an_excess_is_discarded_with_the_lease(redis: Redis, keys: Keys, lease_of_b: bool) -> None:
    """A measures an excess and loses its lease; B purges; later A purges nothing, as the rest is within the cap."""
    cap = Caps(letters_of_their_own(redis, keys, 40) * 30, 0.0)
    now = [0.0]
    a = Retention(redis, keys, "wa", cap, Clock(monotonic=lambda: now[0]))
    b = Retention(redis, keys, "wb", cap, Clock(monotonic=lambda: now[0]))
    whole_round(a)
    assert a._excess > 0
    for _ in range(3):
        now[0] += 61
        redis.delete(keys.birdfeed("retention"))
        whole_round(b)
    left = redis.zcard(keys.failed)
    assert 27 <= left <= 30

    if lease_of_b:
        assert not a.step()
    redis.delete(keys.birdfeed("retention"))
    now[0] += 61
    whole_round(a)
    whole_round(a)

    assert redis.zcard(keys.failed) == left


def test_an_excess_is_purged_once(redis: Redis, keys: Keys) -> None:
    """Measured in one round, purged in the next, measured again."""
    cap = Caps(letters_of_their_own(redis, keys, 12) * 10, 0.0)
    retention = Retention(redis, keys, "wa", cap, Clock(monotonic=time.monotonic))
    for _ in range(5):
        retention._next_round = float("-inf")
        whole_round(retention)

    assert 8 <= redis.zcard(keys.failed) <= 10


def failed_by_clean_up(redis: Redis, keys: Keys) -> str:
    job_id = accept(redis, keys, events(2))
    (job,) = Reserver(redis, keys, "lost", 20).reserve(jobs=1, events=10, size=10**7)
    redis.zadd(keys.started, {f"{job.id}:{job.execution}": 1})
    StartedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).cleanup()
    return job_id


def failed_by_a_stock_worker(redis: Redis, keys: Keys) -> str:
    job_id = accept(redis, keys, events(2))
    redis.hset(keys.job(job_id), "failure_ttl", -1)
    queue = Queue(keys.queue, connection=redis, serializer=JSONSerializer)
    SimpleWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=True)
    return job_id


def failed_without_a_time(redis: Redis, keys: Keys) -> str:
    job_id = accept(redis, keys, events(2))
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    redis.lrem(keys.queue_list, 0, job_id)
    FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).add(job, ttl=3600)
    redis.hdel(keys.job(job_id), "ended_at")
    return job_id


@pytest.mark.parametrize("fail", [failed_by_clean_up, failed_by_a_stock_worker, failed_without_a_time])
def test_what_rq_failed_is_kept(redis: Redis, keys: Keys, fail: object) -> None:
    """With or without rq's time of failure: it counts as failed now, and none of its events is purged."""
    job_id = fail(redis, keys)  # type: ignore[operator]
    retention = Retention(redis, keys, "w", BY_DEFAULT, Clock())
    for _ in range(2):
        retention._next_round = float("-inf")
        whole_round(retention)

    total = read_ledger(redis, keys).total
    assert (total.dead, total.purged, total.missing) == ({"failed": 2}, 0, 0)
    assert redis.hget(keys.job(job_id), "ended_at")
    assert redis.ttl(keys.job(job_id)) == -1


def test_junk_among_failed_jobs(redis: Redis, keys: Keys) -> None:
    """Entries without a job are removed; junk in a letter's fields stops nothing."""
    redis.set(keys.job("text"), "x")
    redis.zadd(keys.failed, {"text": -1, "gone": 5})
    (letter,) = bury(redis, keys, events(1))
    redis.hset(
        keys.job(letter.id),
        mapping={"bf_dead": b'{"attempts":"x","replays":[],"first":5,"last":null}', "bf_bytes": "x"},
    )
    retention = Retention(redis, keys, "w", BY_DEFAULT, Clock())

    whole_round(retention)

    assert redis.zcard(keys.failed) >= 1
    assert read_ledger(redis, keys).total.dead == {"invalid": 1}


def test_peoples_actions_stay_in_the_log(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much retention purges: it has its own stream, with one entry per round and reason.

    The log shows both by time.
    """
    monkeypatch.setattr("birdfeed_worker.dead_letters.audit.KEPT", 5)
    note(redis, keys, "replay begins", replay="replay-1")
    retention = Retention(redis, keys, "w", Caps(0, 1.0), Clock(time=lambda: time.time() + 100))
    monkeypatch.setattr("birdfeed_worker.dead_letters.retention.STEP", 2)
    for _ in range(8):
        letters_of_their_own(redis, keys, 6)
        retention._next_round = float("-inf")
        whole_round(retention)
    note(redis, keys, "replay ends", replay="replay-1")

    log = list(entries(redis, keys, 100))

    assert [entry.action for entry in log] == ["replay ends", *["swept"] * 5, "replay begins"]
    assert [entry.details["events"] for entry in log[1:-1]] == [6] * 5
