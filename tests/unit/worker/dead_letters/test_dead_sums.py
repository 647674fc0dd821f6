"""Sums of dead letters by type and reason, computed in Redis: the same as from reading each of them."""

from collections import Counter
from collections.abc import Iterable

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import sums as module
from birdfeed_worker.dead_letters.query import letters_of
from birdfeed_worker.dead_letters.sums import Sum, sums
from redis import Redis

from tests.support.worker.dead import bury, events


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)


def flat(pages: Iterable[list[Sum]]) -> list[Sum]:
    return [one for page in pages for one in page]


def added(redis: Redis, keys: Keys) -> Counter[tuple[str, str, bool]]:
    found = Counter[tuple[str, str, bool]]()
    for one in flat(sums(redis, keys)):
        found[one.event_type, one.reason, one.counted] += one.events
    return found


def read_one_by_one(redis: Redis, keys: Keys) -> Counter[tuple[str, str, bool]]:
    found = Counter[tuple[str, str, bool]]()
    for letter in letters_of(redis, keys):
        found[letter.event_type, letter.reason, letter.counted] += letter.events
    return found


def test_none(redis: Redis, keys: Keys) -> None:
    assert flat(sums(redis, keys)) == []


def test_by_type_and_reason_each_with_its_oldest(redis: Redis, keys: Keys) -> None:
    """In the order in which they are first found, a page at a time."""
    bury(redis, keys, events(3))
    bury(redis, keys, events(2), "rejected")
    bury(redis, keys, events(4))
    first, second, third = (letter.id for letter in letters_of(redis, keys))

    assert [[(one.reason, one.events, one.oldest) for one in page] for page in sums(redis, keys)] == [
        [("invalid", 3, first), ("rejected", 2, second)],
        [("invalid", 4, third)],
    ]


def test_a_page_has_one_sum_of_a_kind(redis: Redis, keys: Keys) -> None:
    bury(redis, keys, events(3))
    bury(redis, keys, events(4))

    assert [(one.reason, one.events) for one in flat(sums(redis, keys))] == [("invalid", 7)]


def junk(redis: Redis, keys: Keys) -> None:
    """Other entries: jobs that rq failed, a missing one, not a hash, not a number, not text, an empty letter."""
    redis.hset(keys.job("failed-untyped"), mapping={"data": "x", "ended_at": "2026-01-01"})
    redis.hset(keys.job("failed-by-rq"), mapping={"data": "x", "ended_at": "2026-01-01", "bf_type": "t"})
    redis.set(keys.job("no-hash"), "x")
    redis.hset(keys.job("no-number"), mapping={"bf_events": "1e9", "bf_reason": "invalid"})
    redis.hset(keys.job("no-text"), mapping={"bf_type": b"\xff\n", "bf_reason": "x" * 300, "bf_events": "7"})
    redis.hset(keys.job("nothing"), mapping={"data": "x"})
    names = ("failed-by-rq", "failed-untyped", "gone", "no-hash", "no-number", "no-text", "nothing")
    redis.zadd(keys.failed, dict.fromkeys(names, -1))


@pytest.mark.parametrize("score", [-1, 5])
def test_the_same_as_reading_them(redis: Redis, keys: Keys, score: int) -> None:
    """With any entries, and with a job that rq failed and that has an expiry (score), so that ids are not in order."""
    bury(redis, keys, events(3), each=True)
    bury(redis, keys, events(2), "rejected")
    junk(redis, keys)
    redis.zadd(keys.failed, {"failed-by-rq": score})

    found = added(redis, keys)

    assert found == read_one_by_one(redis, keys)
    assert found["t", "failed", False] == 1
    assert found["unknown", "failed", False] == 1
    assert found["unknown", "invalid", True] == 1
    assert len(found) == 6
