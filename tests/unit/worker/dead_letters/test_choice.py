"""The fields of a dead letter, and which letters and events match a filter: row by row."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.envelope import MAX_COUNT, Batch, Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import query
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, find, letters_of, opened, read
from birdfeed_worker.dead_letters.record import fingerprint, letter_fields
from birdfeed_worker.queue.codec import repack
from redis import Redis

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
A_LITTLE = timedelta(milliseconds=1)
LETTER = DeadLetterInfo(
    id="dead-1",
    event_type="text_generation",
    reason="invalid",
    detail="model: missing",
    fingerprint="abcdef012345",
    events=2,
    size=3,
    attempts=4,
    replays=5,
    replay_id="r",
    first_failed_at="2026-01-01T00:00:00.000Z",
    last_failed_at="2026-01-02T00:00:00.000Z",
)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, True),
        ({"reason": "invalid"}, True),
        ({"reason": "rejected"}, False),
        ({"fingerprint": "abc"}, True),
        ({"fingerprint": "bcd"}, False),
        ({"event_type": "text_generation"}, True),
        ({"event_type": "image_generation"}, False),
        ({"ids": ("dead-0", "dead-1")}, True),
        ({"ids": ()}, False),
        ({"since": WHEN - A_LITTLE}, True),
        ({"since": WHEN}, True),
        ({"since": WHEN + A_LITTLE}, False),
        ({"until": WHEN - A_LITTLE}, False),
        ({"until": WHEN}, False),
        ({"until": WHEN + A_LITTLE}, True),
        ({"reason": "invalid", "event_type": "image_generation"}, False),
        ({"model": "m", "user": "u", "text": "t"}, True),
    ],
    ids=str,
)
def test_which_letters_match(choice: dict[str, Any], expected: bool) -> None:
    """All conditions must be true; those about events are tested on the opened letter."""
    assert Choice(**choice).fits(LETTER) is expected


LINES = [
    b'{"data":{"model":"m1","user":"Ann"}}',
    b'{"data":{"modelUsed":"m1","userId":7}}',
    b'{"data":{"model_used":"m2","username":"Ann"}}',
    b'{"data":{"prompt":"GR\xc3\x9cN"}}',
    b"no JSON of ann's",
]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"reason": "whatever"}, [0, 1, 2, 3, 4]),
        ({"model": "m1"}, [0, 1]),
        ({"model": "m2"}, [2]),
        ({"user": "Ann"}, [0, 2]),
        ({"user": "ann"}, []),
        ({"user": "7"}, [1]),
        ({"model": "m1", "user": "Ann"}, [0]),
        ({"model": "m2", "user": "7"}, []),
        ({"text": "ANN"}, [0, 2, 4]),
        ({"text": "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"}, [3]),
        ({"text": "Model: MISSING"}, [0, 1, 2, 3, 4]),
        ({"text": "missing", "user": "Ann"}, [0, 2]),
        ({"text": "m2", "user": "7"}, []),
        ({"text": ""}, [0, 1, 2, 3, 4]),
    ],
    ids=str,
)
def test_which_events_match(choice: dict[str, Any], expected: list[int]) -> None:
    """With any of a field's spellings; text may be in the data, or in the letter's reason."""
    batch = Batch(
        Header(batch_id="b", event_type="text_generation", count=5, reason="invalid", detail="model: missing"), LINES
    )

    assert Choice(**choice).chosen(batch) == expected


@pytest.mark.parametrize("choice", [{"model": "m"}, {"user": "u"}, {"text": "t"}], ids=str)
def test_what_needs_opened_letters(choice: dict[str, Any]) -> None:
    assert Choice(**choice).by_event is True


def test_what_needs_no_opened_letter() -> None:
    everything = Choice(reason="r", fingerprint="f", event_type="t", since=WHEN, until=WHEN, ids=("i",))
    assert everything.by_event is False


def told(redis: Redis, keys: Keys, **fields: Any) -> DeadLetterInfo:
    told: dict[Any, Any] = {"status": "failed", **fields}
    redis.hset(keys.job("x"), mapping=told)
    (letter,) = read(redis, keys, ["x"])
    redis.delete(keys.job("x"))
    return letter


def known(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def test_a_letter_with_every_field(redis: Redis, keys: Keys) -> None:
    fields = {
        "bf_type": "t",
        "bf_reason": "invalid",
        "bf_events": 3,
        "bf_bytes": 9,
        "description": "birdfeed dead letter: 3 t, invalid: why, invalid: so",
        "ended_at": "end",
        "bf_dead": known(fingerprint="f", attempts=2, replays=1, replay="r", first="a", last="b"),
    }

    assert told(redis, keys, **fields) == DeadLetterInfo(
        id="x",
        event_type="t",
        reason="invalid",
        detail="why, invalid: so",
        fingerprint="f",
        events=3,
        size=9,
        attempts=2,
        replays=1,
        replay_id="r",
        first_failed_at="a",
        last_failed_at="b",
    )


def test_a_letter_without_fields(redis: Redis, keys: Keys) -> None:
    """As when rq failed the job by itself: with the time of its end if there is one."""
    bare = DeadLetterInfo(
        id="x",
        event_type="unknown",
        reason="failed",
        detail="calls f()",
        fingerprint=fingerprint("", "", "calls f()"),
        events=1,
        size=0,
        attempts=0,
        replays=0,
        replay_id="",
        first_failed_at="end",
        last_failed_at="end",
        counted=False,
    )

    assert told(redis, keys, description="calls f()", ended_at="end") == bare
    for junk in (b"[}", b"[1]", b"null", known(fingerprint=1, attempts="2", replays=None, replay=[], first=0, last={})):
        assert told(redis, keys, description="calls f()", ended_at="end", bf_dead=junk) == bare


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (1, 1), (MAX_COUNT, MAX_COUNT), (MAX_COUNT + 1, 0), (-1, 0), (True, 0), (1.0, 0)]
)
def test_the_largest_count_of_attempts(redis: Redis, keys: Keys, value: Any, expected: int) -> None:
    """A larger count than a header can contain is ignored."""
    letter = told(redis, keys, bf_dead=known(attempts=value, replays=value))

    assert (letter.attempts, letter.replays) == (expected, expected)


def test_missing_letters_are_left_out(redis: Redis, keys: Keys) -> None:
    """So are keys that are not hashes, and hashes without a letter's fields; the order is kept."""
    for name in ("a", "b"):
        redis.hset(keys.job(name), "bf_type", name)
    redis.set(keys.job("text"), "x")
    redis.hset(keys.job("other"), "x", "y")

    assert [letter.id for letter in read(redis, keys, ["b", "text", "gone", "other", "a"])] == ["b", "a"]
    assert opened(redis, keys, read(redis, keys, ["a"])) == [], "without data"


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ({"reason": "invalid", "detail": "the whole of it"}, "the whole of it"),
        ({"reason": "rejected", "detail": "of another death"}, "cut"),
        ({"reason": "invalid", "detail": ""}, "cut"),
    ],
)
def test_an_opened_letter(redis: Redis, keys: Keys, header: dict[str, Any], detail: str) -> None:
    """Its batch has the number of events and their complete reasons."""
    data, _ = repack(Header(batch_id="x", event_type="t", count=2, **header), [b"{}", b"[]"])
    redis.hset(
        keys.job("x"),
        mapping={"data": data, "bf_type": "t", "bf_reason": "invalid", "bf_events": 9, "description": ", invalid: cut"},
    )
    redis.zadd(keys.failed, {"x": -1})

    letter = find(redis, keys, "x")

    assert letter is not None
    assert letter.batch is not None
    assert (letter.events, list(letter.batch.lines), letter.detail) == (2, [b"{}", b"[]"], detail)
    assert letter.digest == hashlib.sha1(data).hexdigest()


def test_a_letter_that_cant_be_opened(redis: Redis, keys: Keys) -> None:
    """It has the values of its fields and a digest, so that it can be purged."""
    redis.hset(keys.job("x"), mapping={"data": "junk", "bf_reason": "undecodable", "bf_events": 4})
    assert find(redis, keys, "x") is None, "a job that is not dead"
    redis.zadd(keys.failed, {"x": -1})

    letter = find(redis, keys, "x")

    assert letter is not None
    assert (letter.batch, letter.events, letter.digest) == (None, 4, hashlib.sha1(b"junk").hexdigest())


def test_chosen_ids_are_read_a_page_at_a_time(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, without letters that don't match the other conditions."""
    monkeypatch.setattr(query, "PAGE", 2)
    header = Header(batch_id="x", event_type="t", count=1, reason="invalid")
    for name in "abcde":
        redis.hset(keys.job(name), mapping=dict(letter_fields(header, [b"{}"], keys.queue)))  # type: ignore[arg-type]
        redis.zadd(keys.failed, {name: -1})
    redis.hset(keys.job("d"), "bf_reason", "rejected")
    redis.hset(keys.job("not-dead"), "bf_reason", "invalid")

    choice = Choice(ids=("e", "not-dead", "d", "b", "a"), reason="invalid")

    assert [letter.id for letter in letters_of(redis, keys, choice)] == ["a", "b", "e"]
    assert [(letter.id, letter.batch is None) for letter in query.dead_letters_of(redis, keys, choice)] == [
        ("a", False),
        ("b", False),
        ("e", False),
    ]
