"""Verification: the store is queried before anything is sent again, but not after a known outcome."""

from typing import Any

import pytest
from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QuotaError
from birdfeed_worker.flow.rate_limit import RateLimiter
from birdfeed_worker.model import Dead, Deferred, Outcome, Written
from birdfeed_worker.pipeline.send import QUARANTINED
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.tinybird.decide import Answer
from redis import Redis

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, Write, items, job, sender_of


@pytest.mark.parametrize("status", [0, 408, 422, 500, 502, 504, 202])
def test_an_unknown_outcome_is_verified_and_only_the_rest_is_sent(
    write: Write, store: FakeStore, redis: Redis, status: int
) -> None:
    """Half of the rows were written before the answer was lost: they are not sent again."""
    made = items(6)

    def half(rows: list[dict[str, Any]]) -> Answer:
        store.keep("llm_events", rows[::2])
        return Answer(status=status)

    store.rules.append(half)
    write(made)
    assert all(item.outcome == Deferred(NOW + 60, NOW) for item in made)

    store.rules.clear()
    redis.flushall()
    for item in made:
        item.outcome, item.verify = None, True
    write(made, **{f"job_{n}": {"maybe_written_since": NOW - 60} for n in range(3)})

    assert [item.outcome for item in made] == [Written(already_stored=n % 2 == 0) for n in range(6)]
    assert len(store.ids()) == len(set(store.ids())) == 6


def test_nothing_is_queried_before_the_settle_time(write: Write, store: FakeStore) -> None:
    """The write may still be committed: the query waits, and so does the resend."""
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"maybe_written_since": NOW - 59.0}, job_1={"maybe_written_since": NOW - 61.0})

    assert [item.outcome for item in made] == [Deferred(NOW + 1, NOW - 59), Written(), Written()]


def test_if_the_query_fails_nothing_is_sent(write: Write, store: FakeStore) -> None:
    """The events wait, still marked."""
    store.refuse_queries = True
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"maybe_written_since": NOW - 100})

    assert store.requests == []
    assert made[0].outcome == Deferred(NOW + 30, NOW - 100)


def test_an_enqueue_tried_twice_is_written_once(write: Write, store: FakeStore) -> None:
    """The producer lost the answer and sent the batch again: what the first one brought is written and counted once."""
    made = items(2, retried=True)
    assert made[0].envelope is not None
    store.keep("llm_events", [{"event_id": made[0].envelope.event_id}])
    for item in made:
        item.verify = True

    write(made)

    assert [item.outcome for item in made] == [Written(already_stored=True, duplicate_enqueue=True), Written()]


def test_with_the_read_quota_used_up_events_wait(
    write: Write, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as Tinybird's answer says, and nothing is sent without verification."""

    def used_up(sql: str) -> list[dict[str, Any]]:
        raise QuotaError(3600)

    monkeypatch.setattr(store, "query", used_up)
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"maybe_written_since": NOW - 100})

    assert store.requests == []
    assert [item.outcome for item in made] == [
        Deferred(NOW + 3600, NOW - 100),
        Deferred(NOW + 3600),
        Deferred(NOW + 3600),
    ]


def test_stopped_during_verification(store: FakeStore, limiter: RateLimiter) -> None:
    """After the stop, events that are not verified wait with their old mark, and nothing more is queried."""
    clock = Clock(time=lambda: NOW)
    clock.stop.set()
    sender = sender_of(store, limiter, clock)
    steps: list[int] = []
    writer = Writer(store, sender, clock, WriteLimits(1000, 10**6), lambda: steps.append(1))
    made = items(3)
    for item in made:
        item.verify = True

    with writer.delivery({f"job-{n}": job(f"job-{n}", maybe_written_since=NOW - 100) for n in range(3)}) as writing:
        writing.add("llm_events", made)

    assert [item.outcome for item in made] == [Deferred(NOW, NOW - 100)] * 3
    assert steps == [1]


@pytest.mark.parametrize(
    ("can_read", "quarantined", "expected"),
    [
        (True, 1, Deferred(NOW + 60, NOW)),
        (False, 1, Written()),
        (True, 3, Dead("quarantined", QUARANTINED)),
        (False, 3, Dead("quarantined", QUARANTINED)),
    ],
)
def test_quarantined_rows_that_cannot_be_identified(
    write: Write, store: FakeStore, can_read: bool, quarantined: int, expected: Outcome
) -> None:
    """They are in the store and are not sent again: verified later, or, without a read token, counted as written."""
    store.readable, store.refuse_queries = can_read, True
    made = items(3)
    store.rules.append(lambda rows: Answer(status=200, successful=3 - quarantined, quarantined=quarantined))

    write(made)

    assert [item.outcome for item in made] == [expected] * 3
    assert len(store.requests) == 1


def test_what_was_quarantined_before_the_answer_was_lost(write: Write, store: FakeStore) -> None:
    """The row that is found in quarantine is dead-lettered with the store's reason; the others are sent."""
    made = items(3)
    store.quarantine["llm_events"] = {made[1].event_id: "not a number"}
    for item in made:
        item.verify = True

    write(made)

    assert [type(item.outcome) for item in made] == [Written, Dead, Written]
    assert isinstance(made[1].outcome, Dead)
    assert made[1].outcome.reason == "quarantined"
    assert "not a number" in made[1].outcome.detail
    assert store.ids() == [made[0].event_id, made[2].event_id]


@pytest.mark.parametrize("header", [{"replay_id": "r1"}, {"reason": "quarantined"}])
def test_a_replayed_row_that_was_quarantined_before(write: Write, store: FakeStore, header: dict[str, Any]) -> None:
    """It is sent: the old quarantined row says nothing about the replay."""
    made = items(1, **header)
    store.quarantine["llm_events"] = {made[0].event_id: "not a number"}
    made[0].verify = True

    write(made)

    assert (made[0].outcome, store.ids()) == (Written(), [made[0].event_id])
