"""Looking tiers up: cached, one request per user at a time, within a budget, and no failure is cached as an answer."""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from birdfeed_worker.tiers.lookup import CachedTiers, NoTiers, TierSource


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Answers from a dict, and records the lookups. Waits for `gate` before it answers."""

    def __init__(self, tiers: dict[str, str | None] | None = None) -> None:
        self.tiers = tiers or {}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
        self.asked += users
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        for user in users:
            if user in self.tiers:
                yield user, self.tiers[user]


class Counts:
    def __init__(self) -> None:
        self.failures: list[tuple[str, int]] = []

    def __call__(self, reason: str, users: int) -> None:
        self.failures.append((reason, users))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lookup(source: TierSource, **options: Any) -> CachedTiers:
    """A lookup that waits for its threads as long as a slow machine may need."""
    return CachedTiers(source, **{"budget": 60, **options})


def test_answers_are_cached_for_their_time(clock: Clock) -> None:
    """One request, until the answer is too old."""
    source = Source({"u": "seed"})
    tiers = lookup(source, ttl=60, clock=clock)
    first = tiers.look_up({"u"})
    clock.now = 59.9
    second = tiers.look_up({"u"})
    source.tiers["u"] = "flower"
    clock.now = 60
    third = tiers.look_up({"u"})
    tiers.close()

    assert [first, second, third] == [{"u": "seed"}, {"u": "seed"}, {"u": "flower"}]
    assert source.asked == ["u", "u"]


def test_a_batch_looks_up_unknown_users_once(clock: Clock) -> None:
    """The source gets only the users without a cached answer."""
    source = Source({"a": "seed", "b": "spore"})
    tiers = lookup(source, clock=clock)
    tiers.look_up({"a"})
    answers = tiers.look_up(["a", "b", "b"])
    tiers.close()

    assert answers == {"a": "seed", "b": "spore"}
    assert source.asked == ["a", "b"]


def test_without_users_there_is_no_request(clock: Clock) -> None:
    """For a batch of anonymous events."""
    source = Source()

    assert lookup(source, clock=clock).look_up(set()) == {}
    assert source.asked == []


def test_a_failure_is_not_an_answer(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """No answer is returned or cached; after a pause the source is tried again. Users are not logged."""
    source, counts = Source({"user-1": "seed"}), Counts()
    source.error = ConnectionError("user-1")
    tiers = lookup(source, failure_pause=1, clock=clock, on_failure=counts)
    with caplog.at_level(logging.WARNING):
        failed = tiers.look_up({"user-1", "user-2"})
    paused = tiers.look_up({"user-1"})
    source.error = None
    clock.now = 1
    back = tiers.look_up({"user-1"})
    tiers.close()

    assert [failed, paused, back] == [{}, {}, {"user-1": "seed"}]
    assert len(source.asked) == 3
    assert counts.failures == [("error", 2)]
    assert "ConnectionError" in caplog.text
    assert "user-1" not in caplog.text


def test_one_users_failure_affects_no_other(clock: Clock) -> None:
    """The other users have their answers, and the source gets no pause."""
    source = Source({"a": "seed"})
    tiers = lookup(source, clock=clock)
    first = tiers.look_up(["a", "b"])
    source.tiers["b"] = "spore"
    second = tiers.look_up(["b"])
    tiers.close()

    assert [first, second] == [{"a": "seed"}, {"b": "spore"}]


def test_an_answer_before_a_failure_is_used(clock: Clock) -> None:
    """The answers that a source gave before it failed are kept."""

    class Breaks:
        def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
            yield "a", "seed"
            raise OSError

    tiers = lookup(Breaks(), clock=clock)
    answers = tiers.look_up(["a", "b"])
    tiers.close()

    assert answers == {"a": "seed"}


def test_a_missing_tier_is_not_an_answer(clock: Clock) -> None:
    """It isn't stored as a tier; the user is looked up again after a while, not in every batch."""
    source, counts = Source({"u": None}), Counts()
    tiers = lookup(source, no_answer_ttl=30, clock=clock, on_failure=counts)
    answers = [tiers.look_up({"u"}), tiers.look_up({"u"})]
    source.tiers["u"] = "seed"
    clock.now = 30
    answers.append(tiers.look_up({"u"}))
    tiers.close()

    assert answers == [{}, {}, {"u": "seed"}]
    assert source.asked == ["u", "u"]
    assert counts.failures == [("no_tier", 1)]


def test_an_outdated_answer_is_not_used_in_an_outage(clock: Clock) -> None:
    """An answer of five minutes ago is not used: unknown, not a guess."""
    source = Source({"u": "seed"})
    tiers = lookup(source, ttl=60, clock=clock)
    tiers.look_up({"u"})
    source.error = ConnectionError()
    clock.now = 61

    assert tiers.look_up({"u"}) == {}
    tiers.close()


def test_a_batch_waits_no_longer_than_its_budget() -> None:
    """A source that hangs delays by the budget once; its late answer is used for the next batch."""
    source, counts = Source({"u": "seed"}), Counts()
    source.gate.clear()
    tiers = lookup(source, budget=0.05, on_failure=counts)
    start = time.monotonic()
    late = tiers.look_up({"u"})
    took = time.monotonic() - start
    source.gate.set()
    deadline = time.monotonic() + 60
    while not (answers := tiers.look_up({"u"})) and time.monotonic() < deadline:
        pass
    tiers.close()

    assert (late, answers, source.asked) == ({}, {"u": "seed"}, ["u"])
    assert 0.05 <= took < 10
    assert ("late", 1) in counts.failures


def test_the_budget_is_per_batch_not_per_user() -> None:
    """A hundred users wait for a hanging source as long as one."""
    source = Source()
    source.gate.clear()
    tiers = lookup(source, budget=0.05)
    start = time.monotonic()
    answers = tiers.look_up([f"u{number}" for number in range(100)])
    took = time.monotonic() - start
    source.gate.set()
    tiers.close()

    assert answers == {}
    assert took < 10 < 100 * 0.5


def test_one_request_per_user_at_a_time() -> None:
    """With any number of threads."""
    source = Source({"u": "seed"})
    source.gate.clear()
    tiers = lookup(source, budget=60)
    started = threading.Barrier(8)

    def ask() -> object:
        started.wait(60)
        return tiers.look_up({"u"})

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask) for _ in range(7)]
        started.wait(60)
        source.gate.set()
        answers = [one.result(60) for one in asked]
    tiers.close()

    assert answers == [{"u": "seed"}] * 7
    assert source.asked == ["u"]


def test_the_cache_is_bounded(clock: Clock) -> None:
    """The oldest entries are removed first."""
    source = Source({f"u{number}": "seed" for number in range(10)})
    tiers = lookup(source, max_users=3, clock=clock)
    for number in range(10):
        tiers.look_up({f"u{number}"})
    tiers.look_up(["u7", "u8", "u9"])
    tiers.look_up(["u0"])
    tiers.close()

    assert [*(f"u{number}" for number in range(10)), "u0"] == source.asked
    assert len(tiers._known) == 3


def test_answers_about_other_users_are_ignored(clock: Clock) -> None:
    """A source that answers about other users fills no memory."""

    class Talks:
        def answers(self, users: Collection[str]) -> Iterable[tuple[str, str | None]]:
            return [("x", "seed"), *((user, "spore") for user in users)]

    tiers = lookup(Talks(), clock=clock)
    answers = tiers.look_up({"u"})
    tiers.close()

    assert answers == {"u": "spore"}
    assert list(tiers._known) == ["u"]


def test_a_closed_lookup(clock: Clock) -> None:
    """A worker that is stopping gets the cached answers, and no exception."""
    tiers = lookup(Source({"a": "seed", "b": "seed"}), clock=clock)
    tiers.look_up({"a"})
    tiers.close()

    assert tiers.look_up(["a", "b"]) == {"a": "seed"}


def test_no_lookup() -> None:
    """A worker without a lookup has no answers."""
    assert NoTiers().look_up({"u"}) == {}
