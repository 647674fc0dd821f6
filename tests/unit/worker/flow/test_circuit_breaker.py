"""The circuit breaker: after a bad deploy a type's events wait instead of being dead-lettered, until an operator
resumes it.
"""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker, Outcomes, outcomes_of, reset, tripped
from birdfeed_worker.model import (
    POISON,
    Dead,
    Decoded,
    Deferred,
    Item,
    Outcome,
    ReservedJob,
    Written,
    count_outcomes,
)
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.resume import resume
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis

from tests.support.events import envelope
from tests.support.worker.dead import accept, events

NOW = 1_000_000.0
BAD, OTHER = Dead("invalid", "model: missing"), Dead("rejected", "HTTP 400")


def item(outcome: Outcome | None, event_type: str = "t", **header: Any) -> Item:
    return Item("j1", Header(batch_id="j1", event_type=event_type, count=1, **header), b"{}", outcome=outcome)


JOBS = {
    "j1": ReservedJob(
        id="j1", execution="e", data=b"", event_type="t", events=1, size=1, attempts=1, first_reserved=0.0
    )
}


@pytest.fixture
def breaker(redis: Redis, keys: Keys) -> DeadLetterBreaker:
    return DeadLetterBreaker(redis, keys, Clock(time=lambda: NOW), share=0.5, least=100)


def test_what_counts() -> None:
    """Events with an outcome, but not replayed ones, nor poison events."""
    items = [
        *[item(Written())] * 3,
        *[item(BAD)] * 2,
        item(OTHER),
        item(BAD, "u"),
        item(Deferred()),
        item(None),
        item(BAD, replay_id="replay-1"),
        item(BAD, reason="invalid"),
        item(POISON),
    ]

    assert outcomes_of(count_outcomes(items)) == {
        "t": Outcomes(6, {"invalid": 2, "rejected": 1}),
        "u": Outcomes(1, {"invalid": 1}),
    }


@pytest.mark.parametrize(
    ("written", "dead", "pauses"),
    [(0, 99, False), (0, 100, True), (100, 100, False), (100, 101, True), (10_000, 9_000, False)],
)
def test_above_the_share_from_a_hundred_events_on(
    redis: Redis, keys: Keys, breaker: DeadLetterBreaker, written: int, dead: int, pauses: bool
) -> None:
    """In one delivery: then none of them is dead-lettered, and the others are not changed."""
    items = [item(Written()) for _ in range(written)] + [item(BAD) for _ in range(dead)]

    breaker.judge(items, JOBS)

    assert ("t" in tripped(redis, keys)) is pauses
    assert sum(isinstance(one.outcome, Written) for one in items) == written
    assert sum(isinstance(one.outcome, Dead) for one in items) == (0 if pauses else dead)


def test_recent_events_are_remembered_over_deliveries(redis: Redis, keys: Keys, breaker: DeadLetterBreaker) -> None:
    """A long time without failures delays it by some hundred dead letters, not by thousands."""
    for _ in range(100):
        breaker.judge([item(Written()) for _ in range(100)], JOBS)
    died = 0
    while "t" not in tripped(redis, keys):
        last = [item(BAD) for _ in range(50)]
        breaker.judge(last, JOBS)
        died += 50

    assert 200 <= died <= 700
    assert all(isinstance(one.outcome, Deferred) for one in last)


def test_many_small_reasons_are_not_a_bad_deploy(redis: Redis, keys: Keys, breaker: DeadLetterBreaker) -> None:
    """Each reason is compared with the share by itself."""
    breaker.judge([item(Dead(f"r{n % 3}", "x")) for n in range(300)], JOBS)

    assert tripped(redis, keys) == {}


def test_a_paused_type_waits_and_others_continue(redis: Redis, keys: Keys, breaker: DeadLetterBreaker) -> None:
    """Without being decoded; jobs with an unknown outcome keep their mark; a replay is delivered."""
    breaker.judge([item(BAD) for _ in range(100)], JOBS)
    waiting, other, replayed = item(None), item(None, "u"), item(None, replay_id="replay-1")
    job = ReservedJob(
        id="j1",
        execution="e",
        data=b"",
        event_type="t",
        events=1,
        size=1,
        attempts=1,
        first_reserved=0.0,
        maybe_written_since=12.5,
    )

    breaker.defer(breaker.tripped(), [waiting, other, replayed], {"j1": job})

    assert waiting.outcome == Deferred(NOW + 300, 12.5)
    assert (other.outcome, replayed.outcome) == (None, None)
    state = tripped(redis, keys)["t"]
    assert (state.reason, state.dead, state.seen) == ("invalid", 100, 100)


def test_quarantined_rows_are_in_the_store_and_stay_dead_letters(
    redis: Redis, keys: Keys, breaker: DeadLetterBreaker
) -> None:
    """But the type pauses, so that no more follow them."""
    items = [item(Dead("quarantined", "cost")) for _ in range(150)]

    breaker.judge(items, JOBS)

    assert "t" in tripped(redis, keys)
    assert all(isinstance(one.outcome, Dead) for one in items)


def test_after_a_reset_it_counts_again_and_can_be_disabled(
    redis: Redis, keys: Keys, breaker: DeadLetterBreaker
) -> None:
    """Earlier dead letters no longer count; with the breaker disabled, events are dead-lettered."""
    breaker.judge([item(BAD) for _ in range(150)], JOBS)
    assert reset(redis, keys, "t", now=NOW)
    breaker.judge([item(BAD) for _ in range(99)], JOBS)
    assert tripped(redis, keys) == {}
    breaker.judge([item(BAD) for _ in range(1)], JOBS)
    assert "t" in tripped(redis, keys)

    reset(redis, keys, "t", off_seconds=3600, now=datetime.now(UTC).timestamp())
    items = [item(BAD) for _ in range(150)]
    breaker.judge(items, JOBS)

    assert tripped(redis, keys) == {}
    assert all(isinstance(one.outcome, Dead) for one in items)


def test_a_share_of_one_turns_it_off(redis: Redis, keys: Keys) -> None:
    """Nothing is counted in Redis then."""
    items = [item(BAD) for _ in range(500)]
    counted = DeadLetterBreaker(redis, keys, Clock(), share=1, least=100).judge(items, JOBS)

    assert sum(counted.values()) == 500
    assert redis.keys("*") == []


def deliver(redis: Redis, keys: Keys, breaker: DeadLetterBreaker, outcome: Outcome) -> Decoded:
    jobs = Reserver(redis, keys, "w", 20).reserve(jobs=500, events=10**6, size=10**9)
    decoded = decode(jobs)
    by_id = {job.id: job for job in jobs}
    breaker.defer(breaker.tripped(), decoded.items, by_id)
    for one in decoded.items:
        one.outcome = one.outcome or outcome
    counted = breaker.judge(decoded.items, by_id)
    assert counted == count_outcomes(decoded.items), "the outcomes after it deferred some"
    if jobs:
        Settler(redis, keys, "w").settle(jobs, decoded, datetime.now(UTC), counted)
    return decoded


def test_a_bad_deploy_from_first_to_last(redis: Redis, keys: Keys) -> None:
    """Nothing is dead-lettered, everything waits in Redis and is delivered after the resume.

    The ledger always balances.
    """
    breaker = DeadLetterBreaker(redis, keys, Clock(), share=0.5, least=100)
    for _ in range(5):
        accept(redis, keys, events(100))
    accept(redis, keys, [envelope({"model": "flux"}, "image_generation")])

    deliver(redis, keys, breaker, BAD)
    accept(redis, keys, events(50))
    deliver(redis, keys, breaker, BAD)

    ledger = read_ledger(redis, keys)
    assert (ledger.total.dead, ledger.total.in_flight) == ({"invalid": 1}, 550)
    assert redis.zcard(keys.scheduled) == 6
    done = resume(redis, keys, "text_generation", disable_seconds=0)
    assert (list(done.types), done.jobs) == (["text_generation"], 6)
    Reserver(redis, keys, "w", 20).promote()
    deliver(redis, keys, breaker, Written())
    ledger = read_ledger(redis, keys)
    assert (ledger.total.written, ledger.balanced) == (550, True)


def test_resume_accepts_data_sources_too(redis: Redis, keys: Keys) -> None:
    """A paused one is tried immediately; an unknown name is reported."""
    key = keys.birdfeed("destination:llm_events")
    until = str(time.time() + 3600)
    redis.hset(key, mapping={"backoff_until": until, "failures": "3", "paused": "1", "reason": "HTTP 403"})
    job_id = accept(redis, keys, events(1))
    redis.lrem(keys.queue_list, 0, job_id)
    redis.hset(keys.job(job_id), "status", "scheduled")
    redis.zadd(keys.scheduled, {job_id: 9999999999})

    done = resume(redis, keys, "llm_events", disable_seconds=0)

    assert done.destinations["llm_events"].reason == "HTTP 403"
    assert done.jobs == 1
    assert redis.zscore(keys.scheduled, job_id) == pytest.approx(time.time(), abs=60)
    assert redis.hget(key, "backoff_until") == b"0"
    assert resume(redis, keys, "image_generation", disable_seconds=0).jobs == 0
    with pytest.raises(ValueError, match="no event type or data source is named 'llm'"):
        resume(redis, keys, "llm", disable_seconds=0)
