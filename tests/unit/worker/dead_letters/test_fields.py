"""A dead letter's hash and the log, field by field; and the order in which letters are read."""

from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters import query, retention
from birdfeed_worker.dead_letters.audit import BY_PEOPLE, entries, note, who
from birdfeed_worker.dead_letters.record import DESCRIPTION, describe, fingerprint, hash_fields
from birdfeed_worker.dead_letters.retention import LEASE_SECONDS, ROUND_SECONDS, Caps, Retention
from redis import Redis

from tests.support.worker.dead import bury, events

HEADER: dict[str, Any] = {
    "batch_id": "b",
    "event_type": "t",
    "count": 3,
    "reason": "invalid",
    "detail": "model: missing",
    "attempts": 2,
    "first_failed_at": "2026-01-01T00:00:00Z",
    "last_failed_at": "2026-01-02T00:00:00Z",
}


def test_a_letters_hash() -> None:
    """rq reads it as a failed job that never expires."""
    found = hash_fields(Header(**HEADER), b"data", 9, "birdfeed")

    known = found.pop("bf_dead")
    assert found == {
        "data": b"data",
        "status": "failed",
        "origin": "birdfeed",
        "description": "birdfeed dead letter: 3 t, invalid: model: missing",
        "created_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-02T00:00:00Z",
        "timeout": 180,
        "failure_ttl": -1,
        "retries_left": 1_000_000,
        "bf_events": 3,
        "bf_bytes": 9,
        "bf_type": "t",
        "bf_reason": "invalid",
    }
    assert isinstance(known, bytes)
    assert orjson.loads(known) == {
        "fingerprint": fingerprint("t", "invalid", "model: missing"),
        "attempts": 2,
        "first": "2026-01-01T00:00:00Z",
        "last": "2026-01-02T00:00:00Z",
    }


def test_a_letter_that_was_replayed() -> None:
    """It has the replay's name."""
    known = hash_fields(Header(**HEADER, replays=4), b"", 0, "q", replay_id="r1")["bf_dead"]

    assert isinstance(known, bytes)
    found = orjson.loads(known)
    assert (found["replays"], found["replay"]) == (4, "r1")


def test_a_long_description_is_cut() -> None:
    assert len(describe(Header(**{**HEADER, "detail": "x" * 5_000}))) == DESCRIPTION


def test_the_log_of_actions(redis: Redis, keys: Keys) -> None:
    """Who did what, newest first; details in another format are left out."""
    note(redis, keys, "purge", events=3)
    redis.xadd(keys.birdfeed(BY_PEOPLE), {"who": "you", "details": "[1]"})
    redis.xadd(keys.birdfeed(BY_PEOPLE), {"action": "odd", "details": "junk"})

    found = [(entry.who, entry.action, entry.details) for entry in entries(redis, keys)]

    assert found == [("", "odd", {}), ("you", "", {}), (who(), "purge", {"events": 3})]


@pytest.mark.parametrize(
    ("scores", "pages"),
    [
        ([-1, -1, -1, -1, -1], [["a", "b"], ["c", "d"], ["e"]]),
        ([-1, -1, -1, -1], [["a", "b"], ["c", "d"]]),
        ([-1], [["a"]]),
        ([], []),
    ],
)
def test_letters_are_read_in_order(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, scores: list[int], pages: list[list[str]]
) -> None:
    """In the order of their ids, a page at a time."""
    monkeypatch.setattr(query, "PAGE", 2)
    if scores:
        redis.zadd(keys.failed, dict(zip("abcde", scores, strict=False)))

    assert list(query.pages(redis, keys)) == pages


def test_letters_with_jobs_that_rq_failed(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have other scores: all are read once, in any order, a page at a time."""
    monkeypatch.setattr(query, "PAGE", 2)
    redis.zadd(keys.failed, {"a": -1, "b": 5, "c": 4, "d": -1, "e": 3})

    found = list(query.pages(redis, keys))

    assert sorted(one for page in found for one in page) == list("abcde")
    assert [len(page) for page in found] == [2, 2, 1]


def test_while_another_worker_runs_retention(redis: Redis, keys: Keys) -> None:
    """It tries again when the other's lease may have expired, and not before the next round is due."""
    now = [0.0]
    lease = keys.birdfeed("retention")
    worker = Retention(redis, keys, "w", Caps(0, 0.0), Clock(monotonic=lambda: now[0]))
    redis.set(lease, "other")
    assert not worker.step()
    redis.delete(lease)
    now[0] = LEASE_SECONDS - 1
    assert not worker.step()
    assert redis.get(lease) is None
    now[0] = LEASE_SECONDS
    assert worker.step()
    assert redis.get(lease) == b"w"
    assert 0 < redis.ttl(lease) <= LEASE_SECONDS
    now[0] += ROUND_SECONDS - 1
    assert not worker.step()
    now[0] += 1
    assert worker.step()


@pytest.mark.parametrize(
    ("sizes", "remembered", "left"),
    [([1, 1, 1], 99, [3]), ([1, 3, 1], 99, [2, 3]), ([3, 3], 99, [3, 3]), ([1, 1, 1], 1, [1, 1, 1])],
)
def test_which_letters_are_small(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, sizes: list[int], remembered: int, left: list[int]
) -> None:
    """Here letters of three events are not; and a round remembers only a limited number."""
    monkeypatch.setattr(retention, "SMALL_EVENTS", 3)
    monkeypatch.setattr(retention, "MERGE_LETTERS", 2)
    monkeypatch.setattr(retention, "REMEMBERED", remembered)
    for size in sizes:
        bury(redis, keys, events(size))

    worker = Retention(redis, keys, "w", Caps(0, 0.0), Clock(monotonic=lambda: 0.0))
    assert worker.step()
    assert worker.step()

    assert sorted(letter.events for letter in query.dead_letters_of(redis, keys)) == left
    assert worker.step() == (len(left) < len(sizes)), "what was merged is measured again at once"


def test_an_excess_is_purged_immediately(redis: Redis, keys: Keys) -> None:
    """The round after the one that measured it follows without a pause."""
    bury(redis, keys, events(1))
    bury(redis, keys, events(1), "rejected")
    worker = Retention(redis, keys, "w", Caps(1, 0.0), Clock(monotonic=lambda: 0.0))

    assert [worker.step() for _ in range(5)] == [True, True, True, True, False]

    assert list(query.dead_letters_of(redis, keys)) == []
