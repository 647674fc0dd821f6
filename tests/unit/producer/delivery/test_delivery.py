"""Rounds of delivery: to Redis, else to the spool, else kept; every event once or counted."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed.delivery.delivery import Delivery
from birdfeed.delivery.sending import Sending
from birdfeed.encoding.batch import PackedBatch
from birdfeed.errors import SpoolError
from birdfeed.logging_once import forget
from birdfeed.spool.store import Spool
from birdfeed.transport.enqueuer import Outcome
from redis.exceptions import NoPermissionError

from tests.support.producer.fakes import Bench


@pytest.fixture(autouse=True)
def _fresh_log() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, batch_events=10)
    yield made
    made.close()


def test_events_reach_redis_in_batches(bench: Bench) -> None:
    """Twenty-five events in batches of ten."""
    ids = bench.track(25)

    assert bench.round() is True
    assert bench.redis.event_ids == ids
    assert [batch.events for batch in bench.redis.batches.values()] == [10, 10, 5]
    assert (bench.counters.enqueued, bench.counters.batches, bench.counters.taken) == (25, 3, 25)
    assert bench.delivery.breaker.state == "up"


def test_in_an_outage_batches_wait_in_the_spool_and_are_sent_once(bench: Bench) -> None:
    """After the outage every batch is sent once, unmarked, because none was sent before."""
    bench.redis.mood = Outcome.REFUSED
    ids = bench.track(25)
    assert bench.round() is True  # safe on disk
    assert bench.redis.event_ids == []
    assert bench.spool is not None
    assert bench.spool.totals().events == 25

    bench.redis.mood = Outcome.ACCEPTED
    bench.round(2)
    bench.round(2)
    assert sorted(bench.redis.event_ids) == sorted(ids)
    assert {batch.retried for batch in bench.redis.batches.values()} == {False}
    assert (bench.counters.spooled, bench.counters.drained, bench.counters.enqueued) == (25, 25, 25)


def test_an_outage_causes_one_try_a_second(bench: Bench) -> None:
    """In a minute with five flushes a second."""
    bench.redis.mood = Outcome.REFUSED
    for _ in range(300):
        bench.track(1)
        bench.round(0.2)

    assert 40 <= bench.redis.tries <= 61


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_is_tried_again_with_the_same_id_and_marked(bench: Bench, arrives: bool) -> None:
    """Whether or not the batch was written, it is in Redis once, and the retry is marked as one."""
    bench.redis.mood, bench.redis.arrives = Outcome.UNKNOWN, arrives
    ids = bench.track(5)
    assert bench.round() is True
    (spooled,) = bench.spool.batches() if bench.spool else []
    assert spooled.retried

    bench.redis.mood = Outcome.ACCEPTED
    bench.round(2)
    assert bench.redis.event_ids == ids
    assert [(batch.id, batch.retried) for batch in bench.redis.batches.values()] == [(spooled.id, not arrives)]
    assert bench.spool is not None
    assert bench.spool.totals().events == 0


def test_without_a_spool_events_wait_in_memory_within_the_buffers_bound() -> None:
    """Held batches and the buffer, and above the bound drops that are counted."""
    bench = Bench(batch_events=10, buffer_events=30)
    bench.redis.mood = Outcome.REFUSED
    first = bench.track(20)
    assert bench.round() is False
    second = bench.track(50)
    assert bench.round() is False
    assert bench.counters.dropped() == {"buffer_full": 20}

    bench.redis.mood = Outcome.ACCEPTED
    assert bench.round(2) is True
    assert bench.redis.event_ids == first + second[:30]
    assert bench.redis.dropped == {("text_generation", "buffer_full"): 20}


def test_a_spool_that_fails_leaves_events_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk and without Redis nothing is lost while there is memory."""

    def broken(self: Spool, batches: list[PackedBatch]) -> None:
        raise SpoolError("no space")

    bench.redis.mood = Outcome.REFUSED
    monkeypatch.setattr(Spool, "add", broken)
    ids = bench.track(25)
    assert bench.round() is False
    monkeypatch.undo()
    assert bench.round() is True

    bench.redis.mood = Outcome.ACCEPTED
    bench.round(2)
    bench.round(2)
    assert sorted(bench.redis.event_ids) == sorted(ids)


def test_over_the_spools_bound_events_are_dropped_and_reported(tmp_path: Path) -> None:
    """Memory stays empty; the drop counts wait and are in the ledger when Redis is back."""
    bench = Bench(tmp_path, batch_events=10, spool_bytes=3_000)
    bench.redis.mood = Outcome.REFUSED
    ids = bench.track(500)
    assert bench.round() is True
    assert bench.spool is not None
    kept = bench.spool.totals().events
    assert 0 < kept < 500
    assert bench.counters.dropped() == {"spool_full": 500 - kept}
    bench.track(100)
    bench.round()
    assert bench.counters.dropped() == {"spool_full": 600 - kept}

    bench.redis.mood = Outcome.ACCEPTED
    for _ in range(3):
        bench.round(2)
    assert len(bench.redis.event_ids) == kept
    assert bench.redis.event_ids == ids[:kept]
    assert bench.redis.dropped == {("text_generation", "spool_full"): 600 - kept}
    bench.close()


def test_drop_counts_survive_the_process(tmp_path: Path) -> None:
    """It exits in the outage; the next process reports its drops."""
    first = Bench(tmp_path, spool_bytes=500)
    first.redis.mood = Outcome.REFUSED
    first.track(100)
    first.round(closing=True)
    first.close()

    second = Bench(tmp_path, spool_bytes=500)
    second.round(2)
    assert sum(second.redis.dropped.values()) + len(second.redis.event_ids) == 100
    second.close()


def test_a_report_whose_answer_was_lost_keeps_its_id(bench: Bench) -> None:
    """So that the ledger counts it once."""
    bench.counters.drop("unknown", "bad_call", 2)
    bench.redis.mood = Outcome.UNKNOWN
    bench.round()
    bench.redis.mood = Outcome.ACCEPTED
    bench.round(2)

    assert list(bench.redis.reports.values()) == [{("unknown", "bad_call"): 2}]


def test_draining_keeps_to_its_rate(tmp_path: Path) -> None:
    """A hundred events a second, while new events are sent immediately."""
    bench = Bench(tmp_path, batch_events=10, spool_drain_rate=100)
    bench.redis.mood = Outcome.REFUSED
    bench.track(1000)
    bench.round()
    bench.redis.mood = Outcome.ACCEPTED
    bench.clock.now += 2
    for second in range(1, 6):
        bench.track(7)
        for _ in range(5):
            bench.round(0.2)
        assert bench.counters.drained == pytest.approx(100 * second + 100, abs=30)
        assert bench.counters.enqueued - bench.counters.drained == 7 * second
    bench.close()


def test_a_recovering_redis_that_fails_again_loses_nothing(bench: Bench) -> None:
    """Refused, accepted, unknown, refused, accepted, a different answer in every round."""
    ids = []
    for mood in [Outcome.REFUSED, Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.REFUSED, Outcome.ACCEPTED] * 4:
        bench.redis.mood = mood
        ids += bench.track(13)
        bench.round(1.2)
    for _ in range(5):
        bench.round(2)

    assert sorted(bench.redis.event_ids) == sorted(ids)
    assert len(set(bench.redis.event_ids)) == len(ids)


def test_a_fault_in_a_round_leaves_the_events_for_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In packing, sending, or storing."""
    ids = bench.track(25)
    for owner, name in ((Delivery, "_pack"), (Sending, "enqueue"), (Delivery, "_chunk")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                bench.round()

    assert bench.round() is True
    assert bench.redis.event_ids == ids


def test_what_cannot_be_stored_at_exit_is_counted() -> None:
    """Without Redis and spool the process logs what it lost."""
    bench = Bench(batch_events=10)
    bench.redis.mood = Outcome.REFUSED
    bench.track(20)
    bench.round(closing=True)
    bench.track(5)

    assert bench.delivery.abandon() == 25
    assert bench.counters.dropped() == {"closed": 25}
    assert bench.counters.taken == 25


def test_single_events_in_the_spool_are_sent(tmp_path: Path) -> None:
    """With durability=spool, also those that another process left."""
    bench = Bench(tmp_path, durability="spool", batch_events=10)
    assert bench.spool is not None
    for number in range(25):
        bench.spool.add_event("text_generation", b'{"event_id":"%d"}' % number, 1)

    bench.round()
    assert bench.redis.event_ids == [str(number) for number in range(25)]
    assert bench.counters.dropped_fields == 25
    assert bench.spool.totals().events == 0
    bench.close()


def test_the_log_has_no_event_data_and_no_flood(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An outage of a minute is one line, which says where events are kept."""
    bench.redis.mood = Outcome.REFUSED
    with caplog.at_level(logging.DEBUG, "birdfeed"):
        for _ in range(300):
            bench.track(1)
            bench.round(0.2)

    assert len(caplog.messages) == 1
    assert "in the spool" in caplog.text


def test_a_heartbeat_every_ten_seconds(bench: Bench) -> None:
    """The waiting events in memory and on disk, their age, and the dropped ones; only while Redis answers."""
    bench.counters.drop("text_generation", "too_large", 2)
    bench.track(3)
    for _ in range(110):
        bench.round(0.2)

    assert len(bench.redis.heartbeats) == 3
    (name, first), (again, last) = bench.redis.heartbeats[0], bench.redis.heartbeats[-1]
    assert name == again
    assert set(first) == {
        *("host", "pid", "version", "buffered", "spooled_events", "spooled_bytes", "spooled_oldest_seconds"),
        *("enqueued", "dropped"),
    }
    assert (last["enqueued"], last["dropped"], last["spooled_events"]) == (3, '{"too_large":2}', 0)

    bench.redis.mood = Outcome.REFUSED
    bench.track(5)
    bench.round(11)
    assert len(bench.redis.heartbeats) == 3


def test_heartbeats_while_redis_refuses_events(bench: Bench) -> None:
    """While it answers, operators on any host see what waits here; while it is away none is tried."""
    bench.redis.mood, bench.redis.takes_heartbeats = Outcome.REFUSED, True
    bench.redis.refusal = NoPermissionError("no rights")
    bench.track(5)
    for _ in range(60):
        bench.round(0.2)

    assert [beat["spooled_events"] for _, beat in bench.redis.heartbeats] == [5, 5]
    bench.redis.refusal = ConnectionError("away")
    bench.round(11)
    bench.round(11)
    assert len(bench.redis.heartbeats) == 2


def test_single_events_are_sent_whatever_the_durability_is_now(tmp_path: Path) -> None:
    """They stayed in the spool when durability was changed back to buffer."""
    bench = Bench(tmp_path, batch_events=10)
    assert bench.spool is not None
    for number in range(15):
        bench.spool.add_event("text_generation", b'{"event_id":"%d"}' % number, 0)
    bench.round(2)

    assert sorted(map(int, bench.redis.event_ids)) == list(range(15))
    assert bench.spool.totals().events == 0
    bench.close()


def test_a_flush_is_done_when_what_waited_is_safe(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another thread that tracks faster than Redis answers, every flush returned False."""
    real = bench.redis.enqueue

    def slow(batches: Any) -> Any:
        bench.track(1)
        return real(batches)

    monkeypatch.setattr(bench.redis, "enqueue", slow)
    ids = bench.track(5)

    assert bench.round() is True
    assert set(ids) <= set(bench.redis.event_ids)
