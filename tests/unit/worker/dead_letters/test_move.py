"""Events that leave a dead letter: rq's own fields of the new job, and letters that changed meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from birdfeed_schemas.wire.envelope import Batch, Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.move import Mover
from birdfeed_worker.dead_letters.query import Choice, letters_of
from birdfeed_worker.operations.replay import replay
from birdfeed_worker.queue.reply import as_text
from redis import Redis

from tests.support.worker.dead import bury, events

WHEN = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)


def test_a_replayed_job_has_the_fields_that_rq_expects(redis: Redis, keys: Keys) -> None:
    """It may run as long as any job, and rq never lets it expire, whatever its result."""
    bury(redis, keys, events(2))

    replay(redis, keys)

    (job_id,) = redis.lrange(keys.queue_list, 0, -1)
    has = {as_text(name): value for name, value in redis.hgetall(keys.job(as_text(job_id))).items() if name != b"data"}
    assert {
        name: has[name] for name in ("timeout", "result_ttl", "failure_ttl", "retries_left", "status", "origin")
    } == {
        "timeout": b"180",
        "result_ttl": b"60",
        "failure_ttl": b"-1",
        "retries_left": b"1000000",
        "status": b"queued",
        "origin": b"birdfeed",
    }
    assert has["description"] == b"birdfeed dead replay: 2 text_generation"
    assert has["created_at"] == has["enqueued_at"]
    assert (has["bf_events"], has["bf_type"]) == (b"2", b"text_generation")
    assert redis.ttl(keys.job(as_text(job_id))) == -1


def test_a_letter_that_is_not_as_it_was_seen_is_not_purged(redis: Redis, keys: Keys) -> None:
    """One of its events is requested, but the letter was changed meanwhile: -1, and nothing is deleted."""
    (letter,) = bury(redis, keys, events(3))

    assert Mover(redis, keys).purge([replace(letter, digest="0" * 40)], [[0]]) == [-1]
    assert Mover(redis, keys).purge([letter], [[0, 2]]) == [2]
    assert [one.events for one in letters_of(redis, keys)] == [1]


def test_since_is_inclusive_and_until_is_exclusive(redis: Redis, keys: Keys) -> None:
    """So adjacent spans share no letter, and miss none."""
    (letter,) = bury(redis, keys, events(1), now=WHEN)

    assert Choice(since=WHEN).fits(letter)
    assert not Choice(until=WHEN).fits(letter)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"data":1}', b"{}"])
def test_a_line_that_cant_be_read_matches_no_user(line: bytes) -> None:
    """Nor a model; without these conditions it matches like any other."""
    batch = Batch(Header(batch_id="b", event_type="text_generation", count=1), [line])

    assert Choice(user="ann").chosen(batch) == Choice(model="m").chosen(batch) == []
    assert Choice().chosen(batch) == [0]


def test_whether_everything_is_selected() -> None:
    """Only without conditions."""
    assert Choice().everything
    assert not Choice(reason="invalid").everything
