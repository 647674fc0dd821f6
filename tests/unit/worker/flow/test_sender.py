"""One request and the result of its answer: until when rows wait, and which row or store is the cause."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.rate_limit import RateLimiter
from birdfeed_worker.model import Dead, Deferred, Item, Outcome, Written
from birdfeed_worker.pipeline.send import Sender
from birdfeed_worker.tinybird.decide import Answer
from redis import Redis

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, Stop, items, sender_of

STATE = "rq:birdfeed:birdfeed:destination:llm_events"


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def sender(store: FakeStore, limiter: RateLimiter, stop: Stop) -> Sender:
    lost = frozenset({"job-2"})
    clock = Clock(stop=stop, time=lambda: NOW)  # type: ignore[arg-type]
    return sender_of(store, limiter, clock, mark=lambda execution, ids: lost if execution == "lost" else frozenset())


def send(sender: Sender, count: int = 3, execution: str = "e1") -> list[Item]:
    made = items(count)
    sender.send("llm_events", made, execution)
    return made


def always(**answer: Any) -> Callable[[Sequence[Any]], Answer]:
    return lambda rows: Answer(**answer)


@pytest.mark.parametrize(
    ("answer", "seconds", "since"),
    [
        # As in Retry-After, and half of a tenth more.
        ({"status": 429, "retry_after": 100.0}, 105.0, None),
        # The first wait of the backoff: three quarters of a second.
        ({"status": 503}, 0.75, None),
        ({"status": 0, "sent": False}, 0.75, None),
        ({"status": 404}, 0.75, None),
        ({"status": 401}, 0.75, None),
        # Unknown outcome: queried after the settle time.
        ({"status": 500}, 60.0, NOW),
        ({"status": 0}, 60.0, NOW),
    ],
    ids=str,
)
def test_until_when_rows_wait(
    sender: Sender, store: FakeStore, answer: dict[str, Any], seconds: float, since: float | None
) -> None:
    """All rows of the request, and there was one request."""
    store.rules.append(always(**answer))

    outcomes = {item.outcome for item in send(sender)}

    (found,) = outcomes
    assert isinstance(found, Deferred)
    assert found.until == pytest.approx(NOW + seconds, abs=0.01)
    assert found.maybe_written_since == since
    assert len(store.requests) == 1


def test_without_a_read_token_the_bytes_are_sent_again(sender: Sender, store: FakeStore, stop: Stop) -> None:
    """The same bytes three times, at growing waits; then they wait as long as the destination backs off."""
    store.readable = False
    store.rules.append(always(status=500))

    made = send(sender)

    assert len(store.bodies) == 3
    assert len(set(store.bodies)) == 1
    assert stop.waited == [1.0, 2.0]
    (found,) = {item.outcome for item in made}
    assert isinstance(found, Deferred)
    assert found.until == pytest.approx(NOW + 0.75, abs=0.01)
    assert found.maybe_written_since == NOW


@pytest.mark.parametrize(("tries", "answers"), [(2, [500, 200]), (1, [429]), (2, [502, 429])])
def test_without_a_read_token_a_known_outcome_ends_it(
    sender: Sender, store: FakeStore, tries: int, answers: list[int]
) -> None:
    store.readable = False
    left = iter(answers)
    store.rules.append(lambda rows: None if (status := next(left)) == 200 else Answer(status=status, retry_after=9.0))

    made = send(sender)

    assert len(store.bodies) == tries
    assert {type(item.outcome) for item in made} == {Written if answers[-1] == 200 else Deferred}


def test_a_stop_ends_the_repeated_tries(sender: Sender, store: FakeStore, stop: Stop) -> None:
    store.readable, stop.after = False, 1
    store.rules.append(always(status=500))

    send(sender)

    assert len(store.bodies) == 1


def test_after_a_stop_nothing_is_sent(sender: Sender, store: FakeStore, stop: Stop) -> None:
    """The rows are free for other workers immediately."""
    stop.after = 0

    assert {item.outcome for item in send(sender)} == {Deferred()}
    assert store.requests == []


def backs_off(redis: Redis, seconds: float) -> None:
    now, micros = redis.time()
    redis.hset(STATE, mapping={"backoff_until": now + micros / 1e6 + seconds, "failures": 1, "reason": "HTTP 503"})


def test_a_short_wait_keeps_the_jobs(
    sender: Sender, store: FakeStore, stop: Stop, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay in flight."""
    monkeypatch.setattr("birdfeed_worker.pipeline.send.SHORT_WAIT", 99.0)
    backs_off(redis, 50)
    stop.then = lambda: redis.delete(STATE)

    made = send(sender)

    assert {item.outcome for item in made} == {Written()}
    (waited,) = stop.waited
    assert 0 < waited <= 50


@pytest.mark.parametrize("stopped", [False, True])
def test_a_long_wait_gives_rows_back(
    sender: Sender, store: FakeStore, stop: Stop, redis: Redis, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time of its end; so does a stop."""
    if stopped:
        monkeypatch.setattr("birdfeed_worker.pipeline.send.SHORT_WAIT", 99.0)
    backs_off(redis, 50)
    stop.after = 1

    (found,) = {item.outcome for item in send(sender)}

    assert isinstance(found, Deferred)
    assert NOW < found.until <= NOW + 50
    assert (store.requests, len(stop.waited)) == ([], int(stopped))


def test_rows_of_lost_jobs_are_left_out(sender: Sender, store: FakeStore) -> None:
    """Even if those are all rows of a request."""
    made = send(sender, 6, execution="lost")

    assert [item.outcome for item in made] == [Deferred() if item.job_id == "job-2" else Written() for item in made]
    assert store.ids() == [item.event_id for item in made if item.job_id != "job-2"]
    only = items(3)[2:]
    sender.send("llm_events", only, "lost")
    assert only[0].outcome == Deferred()
    assert len(store.requests) == 1


def test_a_row_that_is_too_large(sender: Sender, store: FakeStore) -> None:
    """Only it is dead-lettered; the others are written, in order."""
    store.rules.append(lambda rows: Answer(status=413, detail="big") if any(row["n"] == 2 for row in rows) else None)

    made = send(sender, 5)

    assert made[2].outcome == Dead("too_large", "one row is over the store's limit: HTTP 413: big")
    assert [type(item.outcome) for item in made if item is not made[2]] == [Written] * 4
    assert store.ids() == [item.event_id for item in made if item is not made[2]]


def refuse(*bad: int, then: dict[int, Answer] | None = None) -> Callable[[Sequence[Any]], Answer | None]:
    """400 for requests with these rows; optionally another answer to a request of a single row."""

    def rule(rows: Sequence[Any]) -> Answer | None:
        if then and len(rows) == 1 and rows[0]["n"] in then:
            return then[rows[0]["n"]]
        return Answer(status=400, detail="bad") if any(row["n"] in bad for row in rows) else None

    return rule


REJECTED = Dead("rejected", "HTTP 400: bad")


def test_a_row_that_is_refused(sender: Sender, store: FakeStore) -> None:
    """While the store accepts the others: it is tried once more after these, and is dead-lettered."""
    store.rules.append(refuse(0))

    made = send(sender, 2)

    assert [item.outcome for item in made] == [REJECTED, Written()]
    assert [len(request) for request in store.requests] == [2, 1, 1, 1]


def test_a_row_that_is_refused_after_others_were_accepted(sender: Sender, store: FakeStore) -> None:
    """It is not tried again."""
    store.rules.append(refuse(1))

    made = send(sender, 2)

    assert [item.outcome for item in made] == [Written(), REJECTED]
    assert [len(request) for request in store.requests] == [2, 1, 1]


def test_a_single_row_that_is_refused(sender: Sender, store: FakeStore) -> None:
    """There is no other row to compare with: it is dead-lettered."""
    store.rules.append(refuse(0))

    assert send(sender, 1)[0].outcome == REJECTED


@pytest.mark.parametrize("answer", [Answer(status=429, retry_after=50.0), Answer(status=500), Answer(status=404)])
def test_a_row_refused_while_others_were_given_back(sender: Sender, store: FakeStore, answer: Answer) -> None:
    """The store accepted nothing, and might refuse all rows: none is dead-lettered."""
    store.rules.append(refuse(0, 1, 2, then={1: answer}))

    made = send(sender, 3)

    assert made[0].outcome == Deferred()
    assert all(isinstance(item.outcome, Deferred) for item in made)


def test_if_every_row_is_refused_the_destination_pauses(sender: Sender, store: FakeStore, redis: Redis) -> None:
    """No row is dead-lettered, and all wait for the probe."""
    store.rules.append(always(status=400, detail="bad"))

    (found,) = {item.outcome for item in send(sender, 3)}

    assert isinstance(found, Deferred)
    assert found.until == pytest.approx(NOW + 0.75, abs=0.01)
    assert redis.hmget(STATE, "paused", "reason") == [b"1", b"every request is refused: HTTP 400: bad"]


@pytest.mark.parametrize(("quarantined", "dead"), [({1: "not a number"}, [1]), ({}, [])])
def test_rows_that_were_quarantined(
    sender: Sender, store: FakeStore, quarantined: dict[int, str], dead: list[int], keys: Keys, redis: Redis
) -> None:
    """Those that are found are dead-lettered with Tinybird's reason.

    The others are written, and the destination stays open.
    """

    def rule(rows: Sequence[Any]) -> Answer:
        store.quarantine["llm_events"] = {rows[number]["event_id"]: why for number, why in quarantined.items()}
        return Answer(status=200, successful=2, quarantined=1)

    store.rules.append(rule)
    redis.hset(STATE, "failures", "1")

    made = send(sender)

    expected: list[Outcome] = [Written()] * 3
    for number in dead:
        expected[number] = Dead("quarantined", f"cost: {quarantined[number]}")
    assert [item.outcome for item in made] == expected
    assert redis.hget(keys.birdfeed("destination:llm_events"), "failures") is None


def test_a_destination_that_recovers(sender: Sender, store: FakeStore, redis: Redis) -> None:
    """The accepted probe ends its backoff."""
    redis.hset(STATE, mapping={"failures": "3", "reason": "HTTP 503"})

    send(sender)

    assert redis.hmget(STATE, "failures", "reason", "probe") == [None, None, None]
