"""Dead letters: small, grouped by reason, and ordinary failed jobs for every rq tool."""

from datetime import UTC, datetime

import pytest
from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice, dead_letters_of, find, letters_of
from birdfeed_worker.dead_letters.record import LETTER_EVENTS, fingerprint
from birdfeed_worker.model import Dead, Deferred
from birdfeed_worker.queue.reply import as_text
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from tests.support.events import NOON, envelope, text
from tests.support.worker.dead import accept, bury, events, work

DETAIL = "usage.prompt_tokens: Input should be a valid integer; duration: Input should be greater than or equal to 0"


def size_of(redis: Redis, key: str) -> int:
    """Bytes of a key and its related data."""
    return redis.memory_usage(key, samples=0) or 0


def test_one_dead_event_takes_less_than_two_kilobytes(redis: Redis, keys: Keys) -> None:
    """Hash, registry and everything else."""
    (letter,) = bury(redis, keys, events(1, user="user-1234", duration=612.7), detail=DETAIL)

    mine = [key for key in map(as_text, redis.keys("*")) if letter.id in key]

    assert mine == [keys.job(letter.id)]
    assert size_of(redis, keys.job(letter.id)) + size_of(redis, keys.failed) <= 2_000


@pytest.mark.parametrize("count", [100, 500, 1_000])
def test_a_group_takes_little_more_than_when_it_was_queued(redis: Redis, keys: Keys, count: int) -> None:
    """At most 1.3 times the bytes of its job; rq alone takes 4.4 times."""
    batch = [envelope(text(request_id=f"r{n * 7919}", user=f"user-{n % 50}", duration=n * 13.7)) for n in range(count)]
    job_id = accept(redis, keys, batch)
    queued = size_of(redis, keys.job(job_id))

    work(redis, keys, lambda item: Dead("invalid", DETAIL))

    (letter,) = letters_of(redis, keys)
    assert size_of(redis, keys.job(letter.id)) + size_of(redis, keys.failed) <= 1.3 * queued


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("row 17: bad", "row 9123: bad", True),
        ("event 0192d3f4-5a6b-7c8d-9e0f-a1b2c3d4e5f6", "event 0192d3f4-5a6b-7c8d-9e0f-ffffffffffff", True),
        ("items.3.price: too small", "items.41.price: too small", True),
        ("at 12:31:07, 0xdeadbee1", "at 09:00:00, 0xcafe0001", True),
        ("model: Field required", "user: Field required", False),
        ("face", "faded", False),
    ],
)
def test_ids_and_numbers_do_not_split_a_kind(one: str, other: str, same: bool) -> None:
    """The fingerprint depends on the failure, not on the event."""
    assert (fingerprint("t", "invalid", one) == fingerprint("t", "invalid", other)) is same
    assert fingerprint("t", "invalid", one) != fingerprint("t", "rejected", one)


def test_events_that_fail_together_for_one_reason_are_one_letter(redis: Redis, keys: Keys) -> None:
    """From several jobs of a reservation; with the attempts and times of all."""
    for _ in range(2):
        accept(redis, keys, events(3))

    work(redis, keys, lambda item: Dead("rejected", f"HTTP 400: row {item.event_id}"))

    (letter,) = dead_letters_of(redis, keys)
    assert (letter.events, letter.reason, letter.attempts, letter.replays) == (6, "rejected", 1, 0)
    assert letter.first_failed_at == letter.last_failed_at
    assert letter.batch is not None
    assert len(letter.batch.lines) == 6


def test_a_large_group_is_several_letters(redis: Redis, keys: Keys) -> None:
    """So none is larger than a job may be."""
    accept(redis, keys, events(LETTER_EVENTS + 1))
    work(redis, keys, lambda item: Dead("invalid", "x"))

    assert sorted(letter.events for letter in letters_of(redis, keys)) == [1, LETTER_EVENTS]


def test_times_and_attempts_add_up(redis: Redis, keys: Keys) -> None:
    """A dead letter that rq requeues and that fails again keeps its first time, and its count continues."""
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    (letter,) = bury(redis, keys, events(1), now=first)
    FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).requeue(letter.id)

    work(redis, keys, lambda item: Dead("invalid", "again"), now=second)

    (letter,) = letters_of(redis, keys)
    assert letter.first_failed_at.startswith("2026-01-01")
    assert letter.last_failed_at.startswith("2026-01-02")
    assert letter.attempts == 2


def test_rq_sees_a_failed_job_with_all_details(redis: Redis, keys: Keys) -> None:
    """In the description and the times; nothing of it expires."""
    (letter,) = bury(redis, keys, events(2))

    registry = FailedJobRegistry(queue=Queue(keys.queue, connection=redis, serializer=JSONSerializer))
    registry.cleanup()
    job = Job.fetch(letter.id, connection=redis, serializer=JSONSerializer)

    assert registry.get_job_ids() == [letter.id]
    assert job.is_failed
    assert job.description == "birdfeed dead letter: 2 text_generation, invalid: model: Field required"
    assert (format_time(job.created_at), format_time(job.ended_at or NOON)) == (letter.first_failed_at,) * 2
    assert redis.ttl(keys.job(letter.id)) == -1


def test_a_tool_that_expects_pickle_sees_it_too(redis: Redis, keys: Keys) -> None:
    """rq-dashboard without --json: everything that its pages read from a job, and its requeue button."""
    (letter,) = bury(redis, keys, events(2))

    job = Job.fetch(letter.id, connection=redis)

    assert (job.get_meta(), job.latest_result(), job.return_value(), job.dependency_ids) == ({}, None, None, [])
    assert (job.description or "").startswith("birdfeed dead letter")
    Queue(keys.queue, connection=redis).failed_job_registry.requeue(letter.id)
    assert len(work(redis, keys)) == 2


def test_letters_written_by_other_tools_are_listed_as_far_as_possible(redis: Redis, keys: Keys) -> None:
    """With any values in their fields."""
    redis.hset(keys.job("x"), mapping={"status": "failed", "bf_events": "many", "bf_bytes": "-", "bf_dead": "[}"})
    redis.zadd(keys.failed, {"x": -1})

    (letter,) = letters_of(redis, keys)

    assert (letter.event_type, letter.reason, letter.events, letter.batch) == ("unknown", "failed", 1, None)


def test_letters_are_read_in_order_while_others_are_added_and_deleted(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page continues by id, so letters that are deleted or added meanwhile hide none."""
    monkeypatch.setattr("birdfeed_worker.dead_letters.query.PAGE", 50)
    bury(redis, keys, events(70), each=True)
    reader = letters_of(redis, keys)
    before = [next(reader).id for _ in range(50)]

    for gone in before[:30]:
        redis.zrem(keys.failed, gone)
    bury(redis, keys, events(5), each=True)
    after = [letter.id for letter in reader]

    assert len(after) == 25
    assert sorted({*before, *after}) == [*before, *after]


def test_a_job_that_rq_failed_itself_is_listed_too(redis: Redis, keys: Keys) -> None:
    """rq's own worker took it; it has an expiry, so that the order is no longer that of ids."""
    bury(redis, keys, events(3), each=True)
    job_id = accept(redis, keys, events(2))
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    redis.lrem(keys.queue_list, 0, job_id)
    FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).add(job, ttl=3600, exc_string="boom")

    letters = {letter.id: letter for letter in dead_letters_of(redis, keys)}

    assert len(letters) == 4
    assert (letters[job_id].reason, letters[job_id].counted, letters[job_id].events) == ("failed", False, 2)


def test_filters(redis: Redis, keys: Keys) -> None:
    """All conditions must be true; models and users are found in all their spellings."""
    old = datetime(2026, 1, 1, tzinfo=UTC)
    bury(redis, keys, [envelope(text(user="ann")), envelope({"modelUsed": "m2", "userId": "ann"})], now=old)
    bury(redis, keys, [envelope({"model": "m1"}, "image_generation")], "rejected", "HTTP 400")

    def found(choice: Choice) -> int:
        return sum(len(choice.chosen(letter.batch)) for letter in dead_letters_of(redis, keys, choice) if letter.batch)

    assert found(Choice()) == 3
    assert found(Choice(reason="rejected")) == 1
    assert found(Choice(event_type="text_generation")) == 2
    assert found(Choice(user="ann")) == 2
    assert found(Choice(user="ann", model="m2")) == 1
    assert found(Choice(model="openai")) == 1
    assert found(Choice(model="gpt-4.1-nano-2025-04-14")) == 1
    assert found(Choice(until=datetime(2026, 1, 2, tzinfo=UTC))) == 2
    assert found(Choice(since=datetime(2026, 1, 2, tzinfo=UTC))) == 1
    assert found(Choice(fingerprint=fingerprint("image_generation", "rejected", "HTTP 400")[:4])) == 1


def test_a_deferred_job_is_not_dead(redis: Redis, keys: Keys) -> None:
    """Jobs that are scheduled for later are not dead letters."""
    accept(redis, keys, events(2))
    work(redis, keys, lambda item: Deferred(10**10))

    assert list(letters_of(redis, keys)) == []
    assert find(redis, keys, "dead-nothing") is None
