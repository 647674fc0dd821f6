"""Dead events become letters, and letters become jobs: every field of each."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import Header, format_time, split_batch
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters import record
from birdfeed_worker.dead_letters.move import Moved, Mover, Step
from birdfeed_worker.dead_letters.query import DeadLetterInfo, find
from birdfeed_worker.dead_letters.record import (
    COMPRESSION,
    DeadLetter,
    dead_letters,
    fingerprint,
    normalised,
    unreadable_letter,
)
from birdfeed_worker.model import Dead, Deferred, Item, Unreadable, Written
from birdfeed_worker.queue.codec import repack, unpack
from redis import Redis

from tests.support.worker.dead import bury, events
from tests.support.worker.writing import items, job

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ATTEMPTS = {f"job-{number}": number + 1 for number in range(3)}


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("row 17 of 1,234.5: bad", "row # of #: bad"),
        ("event 0192D3F4-5a6b-7c8d-9e0f-a1b2c3d4e5f6 at 12:30:01", "event # at #"),
        ("at 0xDEADBEE1 and c0ffee1", "at # and #"),
        ("a facade of beef", "a facade of beef"),
    ],
)
def test_what_differs_from_event_to_event(detail: str, expected: str) -> None:
    assert normalised(detail) == expected


def test_a_fingerprint_stays_the_same() -> None:
    """In every release: letters of different years are of one kind, and people search by it."""
    assert fingerprint("t", "invalid", "row 17: bad") == fingerprint("t", "invalid", "row #: bad") == "0e95522f0a08"


def dead(count: int, detail: str = "bad", **header: Any) -> list[Item]:
    made = items(count, **header)
    for number, item in enumerate(made):
        item.outcome = Dead("invalid", f"{detail} {number}")
    return made


def letters_of(made: list[Item]) -> list[DeadLetter]:
    return dead_letters(made, ATTEMPTS, NOW, "q")


def header_of(letter: DeadLetter) -> Header:
    data = letter.fields["data"]
    assert isinstance(data, bytes)
    return split_batch(unpack(data)).header


def test_a_letter_of_several_jobs() -> None:
    """The first event's reason, the most attempts, and the origin of all of them."""
    made = dead(4)
    made[1].outcome, made[2].envelope = Written(), None

    (letter,) = letters_of(made)

    made_of = letter.header
    assert (made_of.event_type, made_of.reason, made_of.detail, made_of.count) == (
        "text_generation",
        "invalid",
        "bad 0",
        3,
    )
    assert letter.sources == {"job-0", "job-2"}
    assert letter.event_ids == (made[0].event_id, made[3].event_id)
    header = header_of(letter)
    assert (header.batch_id, header.count, header.attempts, header.replays) == (letter.id, 3, 3, 0)
    assert (header.reason, header.detail) == ("invalid", "bad 0")
    assert (header.first_failed_at, header.last_failed_at) == (format_time(NOW),) * 2
    assert letter.fields["data"] == repack(header, [made[at].line for at in (0, 2, 3)], COMPRESSION)[0]
    assert letter.fields["origin"] == "q"


def test_a_letter_of_events_that_were_dead_before() -> None:
    """Attempts add up, the first time stays, the replay is named, and no replay is in progress."""
    before: dict[str, Any] = {"attempts": 7, "replays": 2, "replay_id": "r1"}
    made = dead(1, **before) + dead(1, first_failed_at="2026-01-01T00:00:00.000Z", **before)

    (letter,) = letters_of(made)

    header = header_of(letter)
    assert (header.attempts, header.replays, header.replay_id) == (8, 2, "")
    assert (header.first_failed_at, header.last_failed_at) == ("2026-01-01T00:00:00.000Z", format_time(NOW))
    assert b'"replay":"r1"' in bytes(letter.fields["bf_dead"])  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [{"replays": 1}, {"replay_id": "r1"}])
def test_letters_that_differ(other: dict[str, Any]) -> None:
    """Another history, or another kind of failure."""
    made = dead(1) + dead(1, **other) + dead(1, "worse")

    assert [letter.header.count for letter in letters_of(made)] == [1, 1, 1]
    made[2].outcome = Deferred()
    assert [letter.header.count for letter in letters_of(made)] == [1, 1]


@pytest.mark.parametrize(
    ("most", "count", "expected"),
    [(33, 9, [3, 1]), (32, 9, [2, 2]), (22, 9, [2, 2]), (21, 9, [1, 1, 1, 1]), (1, 9, [1, 1, 1, 1]), (99, 3, [3, 1])],
)
def test_how_large_a_letter_is(monkeypatch: pytest.MonkeyPatch, most: int, count: int, expected: list[int]) -> None:
    """Of four lines of ten bytes, each with its end of line."""
    monkeypatch.setattr(record, "LETTER_BYTES", most)
    monkeypatch.setattr(record, "LETTER_EVENTS", count)
    made = dead(4)
    for item in made:
        item.source = b"x" * 10

    assert [letter.header.count for letter in letters_of(made)] == expected


def test_a_job_that_cant_be_opened() -> None:
    """Its data stays as it is, and the producer's fields are used."""
    odd = job("odd", data=b"junk", event_type="t", events=5, size=9, attempts=2)

    letter = unreadable_letter(Unreadable(odd, "undecodable", "no JSON"), NOW, "q")

    header = letter.header
    assert (header.event_type, header.reason, header.detail, header.count) == ("t", "undecodable", "no JSON", 5)
    assert letter.sources == {"odd"}
    assert letter.event_ids == ()
    expected = {"data": b"junk", "bf_events": 5, "bf_bytes": 9, "created_at": format_time(NOW), "origin": "q"}
    assert {name: letter.fields[name] for name in expected} == expected
    assert letter.fields["ended_at"] == format_time(NOW)
    assert b'"attempts":2' in bytes(letter.fields["bf_dead"])  # type: ignore[arg-type]


@pytest.fixture
def letter(redis: Redis, keys: Keys) -> DeadLetterInfo:
    (made,) = bury(redis, keys, events(3), now=NOW)
    return made


@pytest.fixture
def mover(redis: Redis, keys: Keys) -> Mover:
    return Mover(redis, keys, Clock(time=NOW.timestamp))


def lines_of(letter: DeadLetterInfo, *numbers: int) -> dict[int, bytes]:
    assert letter.batch is not None
    return {number: letter.batch.lines[number] for number in numbers}


@pytest.mark.parametrize("event_type", [None, "image_generation"])
def test_a_job_that_goes_back(
    redis: Redis, keys: Keys, letter: DeadLetterInfo, mover: Mover, event_type: str | None
) -> None:
    """Its header is the letter's, marked as a replay; its fields have its size."""
    one = Step(letter, lines_of(letter, 0, 2), "r1", event_type or letter.event_type)

    assert mover.back([one]) == [Moved.DONE]

    has = redis.hgetall(keys.job(one.job_id))
    name = event_type or "text_generation"
    expected = Header(
        batch_id=one.job_id,
        event_type=name,
        count=2,
        replay_id="r1",
        attempts=1,
        first_failed_at=format_time(NOW),
        last_failed_at=format_time(NOW),
        replays=1,
    )
    data, size = repack(expected, list(one.lines.values()))
    assert {field: has[field.encode()] for field in ("data", "bf_bytes", "bf_type", "bf_events", "enqueued_at")} == {
        "data": data,
        "bf_bytes": str(size).encode(),
        "bf_type": name.encode(),
        "bf_events": b"2",
        "enqueued_at": format_time(NOW).encode(),
    }
    assert one.job_id.startswith("replay-")
    assert redis.hget(keys.ledger, f"accepted:{name}") == (b"3" if event_type is None else b"2")


def test_what_remains_in_a_letter(redis: Redis, keys: Keys, letter: DeadLetterInfo, mover: Mover) -> None:
    """The other lines, with all other fields."""
    mover.back([Step(letter, lines_of(letter, 1), "r1", letter.event_type)])

    left = find(redis, keys, letter.id)

    assert left is not None
    assert left.batch is not None
    assert list(left.batch.lines) == list(lines_of(letter, 0, 2).values())
    assert left.batch.header.count == 2
    expected = replace(letter, events=2, size=left.size, batch=left.batch, digest=left.digest)
    assert left == expected
    data = redis.hget(keys.job(letter.id), "data")
    assert isinstance(data, bytes)
    assert left.size == len(unpack(data))
    assert redis.hget(keys.job(letter.id), "description") == (
        b"birdfeed dead letter: 2 text_generation, invalid: model: Field required"
    )


def test_steps_that_are_too_late(redis: Redis, keys: Keys, letter: DeadLetterInfo, mover: Mover) -> None:
    """For a changed and for a deleted letter; the others are executed, in one round trip."""
    late = Step(letter, lines_of(letter, 0), "r1", letter.event_type)
    mover.back([Step(letter, lines_of(letter, 1), "r1", letter.event_type)])
    assert mover.back([late]) == [Moved.CHANGED]
    assert mover.purge([letter], [[0]]) == [-1]
    assert mover.purge([letter]) == [2], "a whole letter, whatever is in it by now"

    assert mover.back([late]) == [Moved.GONE]
    assert mover.purge([letter]) == [0]
    assert mover.purge([letter], [[0]]) == [0]
    assert mover.back([]) == []
    assert mover.purge([]) == []


def test_purging_keeps_nothing(redis: Redis, keys: Keys, letter: DeadLetterInfo, mover: Mover) -> None:
    """After its answer; in the given order."""
    bury(redis, keys, events(1), "rejected")
    other = replace(letter, id="dead-gone")

    assert mover.purge([other, letter], [[0], [0, 2]]) == [0, 2]

    assert redis.keys("*purging*") == []
    left = find(redis, keys, letter.id)
    assert left is not None
    assert left.batch is not None
    assert list(left.batch.lines) == list(lines_of(letter, 1).values())
    with pytest.raises(ValueError, match="zip"):
        mover.purge([letter], [])
