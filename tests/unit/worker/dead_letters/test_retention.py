"""Retention: purges up to the caps are counted, small letters are merged, and jobs that rq failed are kept."""

from datetime import UTC, datetime, timedelta

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters import query as letters_module
from birdfeed_worker.dead_letters import retention as retention_module
from birdfeed_worker.dead_letters.audit import entries
from birdfeed_worker.dead_letters.move import Mover, Step
from birdfeed_worker.dead_letters.query import Choice, dead_letters_of, letters_of
from birdfeed_worker.dead_letters.retention import OVERHEAD_BYTES, Caps, Retention
from birdfeed_worker.model import Dead
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.reconcile import reconcile
from birdfeed_worker.operations.replay import Order, Replay, replay
from redis import Redis
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from tests.support.worker import odd_jobs
from tests.support.worker.dead import accept, bury, events, ids, work

NO_CAPS = Caps(0, 0.0)


def sweep(redis: Redis, keys: Keys, caps: Caps = NO_CAPS, rounds: int = 1) -> None:
    """Run whole rounds of retention."""
    retention = Retention(redis, keys, "w", caps, Clock(monotonic=lambda: 0.0))
    for _ in range(rounds):
        redis.delete(keys.birdfeed("sweeper"))
        retention._next_round = -1.0
        while retention.step() and retention._round is not None:
            pass


def test_small_letters_of_a_kind_are_merged(redis: Redis, keys: Keys) -> None:
    """A thousand letters of one event become one: every event once, times of all, a tenth of the memory."""
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    lone = events(30)
    bury(redis, keys, lone[:29], each=True, now=first)
    bury(redis, keys, lone[29:], each=True, now=last)
    bury(redis, keys, events(3), "rejected", "HTTP 400", each=True)
    before = sum(redis.memory_usage(key) or 0 for key in redis.keys("rq:job:*"))

    sweep(redis, keys)

    letters = {letter.reason: letter for letter in dead_letters_of(redis, keys) if letter.events > 1}
    assert list(letters) == ["invalid"], "fewer than eight are left as they are"
    merged = letters["invalid"]
    assert merged.batch is not None
    assert sorted(line.split(b'"')[3].decode() for line in merged.batch.lines) == sorted(ids(lone))
    assert merged.first_failed_at.startswith("2026-01-01")
    assert merged.last_failed_at.startswith("2026-01-02")
    assert sum(redis.memory_usage(key) or 0 for key in redis.keys("rq:job:*")) < before / 4
    assert reconcile(redis, keys)[1].balanced
    replay(redis, keys, Choice(reason="invalid"))
    assert sorted(ids(work(redis, keys))) == sorted(ids(lone))


def test_merging_comes_before_purging(redis: Redis, keys: Keys) -> None:
    """If the merged letters fit, nothing is purged."""
    letters = bury(redis, keys, events(40), each=True)
    one = OVERHEAD_BYTES + redis.hstrlen(keys.job(letters[0].id), "data")

    sweep(redis, keys, Caps(one * 10, 0.0), rounds=3)

    assert [letter.events for letter in letters_of(redis, keys)] == [40]


def test_different_letters_are_not_merged(redis: Redis, keys: Keys) -> None:
    """Another kind, or a letter that was replayed before."""
    bury(redis, keys, events(8), each=True)
    Replay(redis, keys, Order(limit=4)).run()
    work(redis, keys, lambda item: Dead("invalid", "model: Field required"))

    sweep(redis, keys)

    assert sorted((letter.replays, letter.events) for letter in letters_of(redis, keys)) == [(0, 1)] * 4 + [(1, 4)]


def test_nothing_is_merged_during_a_replay(redis: Redis, keys: Keys) -> None:
    """Otherwise a replay could miss an event, or see one again."""
    bury(redis, keys, events(10), each=True)
    redis.set(keys.birdfeed("replaying"), "replay-1")

    sweep(redis, keys)

    assert len(list(letters_of(redis, keys))) == 10


def test_a_letter_that_changes_meanwhile_is_not_merged(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one of them changed since it was read, nothing is done."""
    bury(redis, keys, events(10), each=True)
    look = letters_module.opened

    def look_and_lose(connection: Redis, names: Keys, letters: list[object]) -> object:
        found = look(connection, names, letters)  # type: ignore[arg-type]
        replay_one = Replay(connection, names, Order(limit=1))
        replay_one.run()
        return found

    monkeypatch.setattr("birdfeed_worker.dead_letters.retention.opened", look_and_lose)
    sweep(redis, keys)

    assert len(list(letters_of(redis, keys))) == 9
    assert read_ledger(redis, keys).balanced


def test_old_events_are_purged_counted_and_logged(redis: Redis, keys: Keys) -> None:
    """By the time of their last failure."""
    old = datetime.now(UTC) - timedelta(days=31)
    bury(redis, keys, events(3), now=old)
    bury(redis, keys, events(2))

    sweep(redis, keys, Caps(0, 30 * 86_400))

    total = read_ledger(redis, keys).total
    assert (total.dead, total.purged, total.missing) == ({"invalid": 2}, 3, 0)
    (entry,) = entries(redis, keys)
    assert (entry.action, entry.details["events"], entry.details["why"]) == ("swept", 3, "older than 30 days")


def test_the_oldest_are_purged_if_all_together_are_too_large(redis: Redis, keys: Keys) -> None:
    """In the round after the measurement."""
    for number in range(40):
        letters = bury(redis, keys, events(1), detail=f"field {chr(97 + number % 20) * (1 + number // 20)}: missing")
    one = OVERHEAD_BYTES + redis.hstrlen(keys.job(letters[0].id), "data")

    sweep(redis, keys, Caps(one * 30, 0.0), rounds=2)

    left = [letter.events for letter in letters_of(redis, keys)]
    assert 27 <= sum(left) <= 30
    total = read_ledger(redis, keys).total
    assert (total.purged, total.missing) == (40 - sum(left), 0)
    assert int(redis.hget(keys.birdfeed("dead-size"), "bytes") or 0) <= one * 30


def test_the_size_is_current_after_moves(redis: Redis, keys: Keys) -> None:
    """Dead-lettering, replaying and purging change it immediately; the next measurement gives the same."""
    bury(redis, keys, events(3), detail="field a: missing")
    sweep(redis, keys)
    mover, size = Mover(redis, keys), keys.birdfeed("dead-size")

    def real() -> int:
        return sum(redis.hstrlen(keys.job(letter.id), "data") + OVERHEAD_BYTES for letter in letters_of(redis, keys))

    def known() -> int:
        return int(redis.hget(size, "bytes") or 0)

    assert (known(), real()) == (real(), known()) != (0, 0)
    first, second = bury(redis, keys, events(5), detail="field b: missing")
    assert (known(), first.events, second.events) == (real(), 3, 5)
    assert first.batch is not None
    assert second.batch is not None
    mover.back([Step(first, {0: first.batch.lines[0]}, "r", first.event_type)])
    assert known() == real()
    mover.back([Step(second, dict(enumerate(second.batch.lines)), "r", second.event_type)])
    assert known() == real() > 0
    mover.purge(list(letters_of(redis, keys)))
    assert known() == real() == 0


def test_the_estimated_size_is_about_right(redis: Redis, keys: Keys) -> None:
    """So the cap limits bytes in Redis."""
    bury(redis, keys, events(1))
    bury(redis, keys, events(500))
    sweep(redis, keys)
    real = sum(redis.memory_usage(key, samples=0) or 0 for key in [*redis.keys("rq:job:*"), keys.failed])

    assert int(redis.hget(keys.birdfeed("dead-size"), "bytes") or 0) == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize("ours", [True, False])
def test_what_rq_failed_itself_is_counted_and_kept(redis: Redis, keys: Keys, ours: bool) -> None:
    """A job that rq's own worker failed is a dead letter like any other from then on, and doesn't expire."""
    job_id = accept(redis, keys, events(2))
    if not ours:
        redis.hdel(keys.job(job_id), "bf_events", "bf_type")
        redis.delete(keys.ledger)
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    redis.lrem(keys.queue_list, 0, job_id)
    FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).add(job, ttl=3600)

    sweep(redis, keys)

    ledger, findings = reconcile(redis, keys)
    assert findings.balanced
    assert ledger.total.dead == {"failed": 2 if ours else 1}
    assert (redis.ttl(keys.job(job_id)), redis.zscore(keys.failed, job_id)) == (-1, -1)


def test_an_entry_without_a_job_is_removed(redis: Redis, keys: Keys) -> None:
    """Its job was deleted; nothing is counted."""
    redis.zadd(keys.failed, {"dead-gone": -1})
    bury(redis, keys, events(1))
    redis.zadd(keys.failed, {"other": 9999999999})

    sweep(redis, keys)

    assert reconcile(redis, keys)[1].balanced


def test_one_process_runs_retention_at_a_time(redis: Redis, keys: Keys) -> None:
    """The others try again when its lease may have expired."""
    bury(redis, keys, events(1))
    first = Retention(redis, keys, "w1", NO_CAPS, Clock())
    second = Retention(redis, keys, "w2", NO_CAPS, Clock())

    assert [first.step(), second.step(), first.step()] == [True, False, True]
    assert not first.step(), "the round is over"


@pytest.mark.parametrize(("letters", "left"), [(7, 7), (8, 1)])
def test_the_fewest_letters_that_are_merged(redis: Redis, keys: Keys, letters: int, left: int) -> None:
    """Eight of a kind."""
    bury(redis, keys, events(letters), each=True)

    sweep(redis, keys)

    assert len(list(letters_of(redis, keys))) == left


def test_a_merged_letter_is_no_larger_than_the_limit(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is full is merged, and the next one begins."""
    monkeypatch.setattr(retention_module, "LETTER_EVENTS", 10)
    bury(redis, keys, events(24), each=True)

    sweep(redis, keys)

    assert sorted(letter.events for letter in letters_of(redis, keys)) == [1] * 6 + [9, 9]


def test_letters_that_cant_be_opened_are_not_merged(redis: Redis, keys: Keys) -> None:
    """Each stays as it is, with its data."""
    for number in range(9):
        odd_jobs.put(redis, keys, f"odd-{number}", data=b"no job's data")
        work(redis, keys)
    before = {letter.id for letter in letters_of(redis, keys)}

    sweep(redis, keys)

    assert {letter.id for letter in letters_of(redis, keys)} == before
    assert {redis.hget(keys.job(one), "data") for one in before} == {b"no job's data"}
