"""What a round of retention measures, purges, logs and merges, letter by letter."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import Header, format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters import retention as module
from birdfeed_worker.dead_letters.audit import entries
from birdfeed_worker.dead_letters.query import dead_letters_of, letters_of
from birdfeed_worker.dead_letters.record import letter_fields
from birdfeed_worker.dead_letters.retention import OVERHEAD_BYTES, Caps, Retention
from birdfeed_worker.monitoring.ledger import read_ledger
from redis import Redis

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER = "2026-01-01T12:00:00.000Z"


@pytest.fixture(autouse=True)
def two_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MERGE_LETTERS", 2)


def retention_of(redis: Redis, keys: Keys, cap: int = 0, age: float = 0.0) -> Retention:
    clock = Clock(time=NOW.timestamp, monotonic=lambda: 0.0)
    return Retention(redis, keys, "w", Caps(cap, age), clock)


def whole_round(retention: Retention) -> None:
    retention._next_round = -1.0
    while retention.step() and retention._round is not None:
        pass


def put(redis: Redis, keys: Keys, name: str, lines: int = 1, replay_id: str = "", **header: Any) -> int:
    """Create a dead letter, by default of a new kind; returns its bytes."""
    told: dict[str, Any] = {
        "batch_id": name,
        "event_type": "t",
        "count": lines,
        "reason": "invalid",
        "detail": f"{name}: missing",
        "attempts": 1,
        "first_failed_at": LATER,
        "last_failed_at": LATER,
        **header,
    }
    fields: dict[Any, Any] = dict(
        letter_fields(Header(**told), [b'{"line":%d}' % n for n in range(lines)], keys.queue, replay_id=replay_id)
    )
    redis.hset(keys.job(name), mapping=fields)
    redis.zadd(keys.failed, {name: -1})
    redis.hincrby(keys.ledger, "accepted:t", lines)
    redis.hincrby(keys.ledger, f"dead:t:{told['reason']}", lines)
    return OVERHEAD_BYTES + redis.hstrlen(keys.job(name), "data")


def names(redis: Redis, keys: Keys) -> list[str]:
    return [letter.id for letter in letters_of(redis, keys)]


def test_what_is_measured(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each letter and its bytes, over several steps; a job that rq failed by itself is one."""
    monkeypatch.setattr(module, "STEP", 2)
    size = sum(put(redis, keys, name) for name in "abc")
    redis.hset(keys.job("d"), mapping={"data": "12345", "description": "calls f()"})
    redis.zadd(keys.failed, {"d": -1})

    whole_round(retention_of(redis, keys))

    assert redis.hgetall(keys.birdfeed("dead-size")) == {
        b"bytes": str(size + OVERHEAD_BYTES + 5).encode(),
        b"letters": b"4",
        b"at": repr(NOW.timestamp()).encode(),
    }
    assert redis.hget(keys.job("d"), "ended_at") == format_time(NOW).encode()


@pytest.mark.parametrize(
    ("over", "left"), [(0, "abcd"), (1, "bcd"), (OVERHEAD_BYTES, "bcd"), (OVERHEAD_BYTES + 200, "cd")]
)
def test_no_more_than_the_excess_is_purged(redis: Redis, keys: Keys, over: int, left: str) -> None:
    """The oldest, until the rest is within the cap; the rest is measured."""
    sizes = {name: put(redis, keys, name) for name in "abcd"}
    assert set(sizes.values()) <= set(range(OVERHEAD_BYTES + 1, OVERHEAD_BYTES + 200))
    retention = retention_of(redis, keys, cap=sum(sizes.values()) - over)

    whole_round(retention)
    assert names(redis, keys) == list("abcd"), "measured before anything is purged"
    whole_round(retention)

    assert names(redis, keys) == list(left)
    assert retention._excess == 0
    assert int(redis.hget(keys.birdfeed("dead-size"), "bytes") or 0) == sum(sizes[name] for name in left)
    total = read_ledger(redis, keys).total
    assert (total.purged, sum(total.dead.values()), total.missing) == (4 - len(left), len(left), 0)


def test_an_excess_of_exactly_one_letter_purges_one(redis: Redis, keys: Keys) -> None:
    """Not two letters."""
    sizes = [put(redis, keys, name) for name in "abc"]
    retention = retention_of(redis, keys, cap=sum(sizes[1:]))

    whole_round(retention)
    whole_round(retention)

    assert names(redis, keys) == ["b", "c"]


def test_without_a_cap_there_is_no_excess(redis: Redis, keys: Keys) -> None:
    put(redis, keys, "a")
    retention = retention_of(redis, keys)

    whole_round(retention)
    whole_round(retention)

    assert (names(redis, keys), retention._excess) == (["a"], 0)


@pytest.mark.parametrize(("age", "left"), [(0.0, "abc"), (60.0, "bc"), (59.999, "c"), (10.0, "c")])
def test_the_age_limit_of_a_letter(redis: Redis, keys: Keys, age: float, left: str) -> None:
    """From its last failure; one of exactly that age is kept."""
    for name, seconds in (("a", 61), ("b", 60), ("c", 10)):
        put(redis, keys, name, last_failed_at=format_time(NOW - timedelta(seconds=seconds)))

    whole_round(retention_of(redis, keys, age=age))

    assert names(redis, keys) == list(left)


def test_each_reason_is_logged_once_a_round(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its events, of all steps together."""
    monkeypatch.setattr(module, "STEP", 1)
    for name in "ab":
        put(redis, keys, name, 3, last_failed_at=format_time(NOW - timedelta(days=3)))
    for name in "cde":
        put(redis, keys, name, 2)
    retention = retention_of(redis, keys, cap=1, age=1.5 * 86_400)

    whole_round(retention)
    assert [entry.details for entry in entries(redis, keys)] == [{"why": "older than 1.5 days", "events": 6}]
    whole_round(retention)

    assert [entry.details for entry in entries(redis, keys)] == [
        {"why": "dead letters exceed 1e-06 MB", "events": 6},
        {"why": "older than 1.5 days", "events": 6},
    ]
    assert {entry.action for entry in entries(redis, keys)} == {"swept"}
    whole_round(retention)
    assert len(list(entries(redis, keys))) == 2


KIND: dict[str, Any] = {"detail": "x: missing", "attempts": 3, "replays": 2, "replay_id": "r1"}


@pytest.mark.parametrize(
    ("other", "letters"),
    [
        ({}, 1),
        ({"detail": "y: missing"}, 2),
        ({"reason": "rejected"}, 2),
        ({"event_type": "u"}, 2),
        ({"attempts": 4}, 2),
        ({"replays": 1}, 2),
        ({"replay_id": "r2"}, 2),
        ({"last_failed_at": format_time(NOW)}, 1),
    ],
    ids=str,
)
def test_letters_of_one_kind(redis: Redis, keys: Keys, other: dict[str, Any], letters: int) -> None:
    """All fields that a merged letter has only once must be equal."""
    put(redis, keys, "a", **KIND)
    put(redis, keys, "b", **{**KIND, **other})

    whole_round(retention_of(redis, keys))

    assert len(names(redis, keys)) == letters


def test_a_merged_letter(redis: Redis, keys: Keys) -> None:
    """It has their common fields, spans their times, and has their lines in order."""
    times = ["2026-01-01T03:00:00.000Z", "2026-01-01T01:00:00.000Z", "2026-01-01T02:00:00.000Z"]
    for name, first, last in zip("abc", times, reversed(times), strict=True):
        put(redis, keys, name, 2, **KIND, first_failed_at=first, last_failed_at=last)

    whole_round(retention_of(redis, keys))

    (letter,) = dead_letters_of(redis, keys)
    assert (letter.event_type, letter.reason, letter.detail) == ("t", "invalid", "x: missing")
    assert (letter.attempts, letter.replays, letter.replay_id) == (3, 2, "r1")
    assert (letter.first_failed_at, letter.last_failed_at) == (times[1], times[0])
    assert letter.batch is not None
    assert list(letter.batch.lines) == [b'{"line":0}', b'{"line":1}'] * 3
    assert (letter.events, letter.batch.header.count, letter.batch.header.batch_id) == (6, 6, letter.id)
    assert letter.id.startswith("dead-")


@pytest.mark.parametrize(
    ("limits", "events"),
    [
        ({"LETTER_EVENTS": 6}, [4, 4, 4]),
        ({"LETTER_EVENTS": 7}, [6, 6]),
        ({"LETTER_EVENTS": 8}, [6, 6]),
        ({"LETTER_EVENTS": 9}, [4, 8]),
        ({"LETTER_EVENTS": 3}, [2] * 6),
        ({"LETTER_BYTES": 3}, [4, 4, 4]),
        ({"LETTER_BYTES": 4}, [6, 6]),
        ({"LETTER_BYTES": 5}, [4, 8]),
        ({"SMALL_EVENTS": 2}, [2] * 6),
        ({"SMALL_EVENTS": 3}, [12]),
        ({"REMEMBERED": 4}, [2, 2, 8]),
        ({"REMEMBERED": 2, "LETTER_EVENTS": 5}, [2, 2, 2, 2, 4]),
    ],
    ids=str,
)
def test_how_many_are_merged(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], events: list[int]
) -> None:
    """A merged letter stays within the limits of a letter, in events and in bytes; six letters of two events, here of
    one byte each.
    """
    for name, value in limits.items():
        monkeypatch.setattr(module, name, value)
    for name in "abcdef":
        put(redis, keys, name, 2, **KIND)
        redis.hset(keys.job(name), "bf_bytes", 1)

    whole_round(retention_of(redis, keys))

    assert sorted(letter.events for letter in letters_of(redis, keys)) == events


def test_a_full_group_frees_room(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three letters can be remembered; those of a full group are merged and removed from memory."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    monkeypatch.setattr(module, "LETTER_EVENTS", 3)
    for name in "abcdef":
        put(redis, keys, name, 1, **KIND)

    whole_round(retention_of(redis, keys))

    assert sorted(letter.events for letter in letters_of(redis, keys)) == [2, 2, 2]


def test_nothing_is_read_inside_a_transaction(redis: Redis, keys: Keys) -> None:
    """A full Redis refuses even a read in a transaction; and other clients need not wait."""
    for name in "abc":
        put(redis, keys, name, **KIND)
    redis.config_resetstat()

    whole_round(retention_of(redis, keys, cap=1, age=1e6))
    list(dead_letters_of(redis, keys))

    assert "cmdstat_multi" not in redis.info("commandstats")


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"bf_events": 2, "bf_type": "t"}, ["2 events"]), ({"description": "x"}, ["1 event"]), ({"bf_reason": "x"}, [])],
    ids=str,
)
def test_a_job_that_rq_failed_is_logged(
    redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], told: list[str]
) -> None:
    """Once, as an error: a worker that isn't birdfeed's is running."""
    given: dict[Any, Any] = {"data": "x", **fields}
    redis.hset(keys.job("d"), mapping=given)
    redis.zadd(keys.failed, {"d": 9e9})
    retention = retention_of(redis, keys)

    whole_round(retention)
    whole_round(retention)

    said = [record.getMessage() for record in caplog.records if "rq itself" in record.getMessage()]
    assert [line.partition(": ")[2].partition(" (")[0] for line in said] == told
