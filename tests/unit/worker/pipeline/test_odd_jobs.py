"""One malformed job affects no other: it is delivered, or becomes a dead letter with its data unchanged."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import MAX_LINES, Batch, WireError, split_batch
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.flow import circuit_breaker
from birdfeed_worker.model import POISON, Item, ReservedJob
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.operations.replay import replay
from birdfeed_worker.pipeline import delivery as module
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.queue.codec import unpack
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.support.events import enqueue, envelope, text
from tests.support.worker import odd_jobs
from tests.support.worker.dead import accept, events
from tests.support.worker.delivering import delivery_of, reserve_all
from tests.support.worker.fake_store import FakeStore


def deliver(redis: Redis, keys: Keys, store: FakeStore) -> None:
    """Deliver all waiting jobs by one worker, in one reservation."""
    delivery_of(redis, keys, store).deliver(reserve_all(redis, keys))


def waiting(redis: Redis, keys: Keys) -> int:
    return redis.llen(keys.queue_list) + redis.zcard(keys.started) + redis.zcard(keys.scheduled)


@pytest.mark.parametrize("data", odd_jobs.DEADLY.values(), ids=odd_jobs.DEADLY)
def test_a_job_that_cant_be_read(redis: Redis, keys: Keys, data: Callable[[], bytes]) -> None:
    """Only it is dead-lettered, immediately, with its data.

    Those before and after it in the same reservation are written.
    """
    store, odd = FakeStore(), data()
    first = enqueue(redis, keys, [envelope(text())])
    odd_jobs.put(redis, keys, data=odd)
    enqueue(redis, keys, [envelope(text()), envelope(text())])

    began = time.monotonic()
    deliver(redis, keys, store)

    assert time.monotonic() - began < 20
    assert len(store.ids()) == 3
    assert waiting(redis, keys) == 0
    assert redis.exists(keys.done(first))
    (letter,) = dead_letters_of(redis, keys)
    assert letter.reason in {"undecodable", "invalid"}
    kept = redis.hget(keys.job(letter.id), "data")
    assert kept == odd or letter.batch is not None, "the data is as it was, or the event is in the letter"


@pytest.mark.parametrize("fields", odd_jobs.JUNK_FIELDS.values(), ids=odd_jobs.JUNK_FIELDS)
def test_junk_in_a_jobs_own_fields(redis: Redis, keys: Keys, fields: dict[Any, Any]) -> None:
    """They describe the job's history, not its content: its event is still written."""
    store = FakeStore()
    odd_jobs.put(redis, keys)
    redis.hset(keys.job("odd"), mapping=fields)
    enqueue(redis, keys, [envelope(text())])

    deliver(redis, keys, store)

    assert len(store.ids()) == 2
    assert (waiting(redis, keys), redis.zcard(keys.failed)) == (0, 0)


@pytest.mark.parametrize("job_id", ["a:b", b"\xff\xfe", "x" * 500, "with space"])
def test_an_id_that_rq_would_refuse(redis: Redis, keys: Keys, job_id: str | bytes) -> None:
    """The job gets an id that can be part of other keys."""
    store = FakeStore()
    odd_jobs.put(redis, keys, job_id)

    deliver(redis, keys, store)

    assert (len(store.ids()), waiting(redis, keys)) == (1, 0)
    assert list(redis.scan_iter(keys.job("*"))) == []


def test_keys_of_another_type(redis: Redis, keys: Keys) -> None:
    """A string in place of a job's hash is not a job; one in place of its leases counts as no lease."""
    store = FakeStore()
    redis.set(keys.job("text"), "x")
    redis.rpush(keys.queue_list, "text")
    job_id = enqueue(redis, keys, [envelope(text())])
    redis.set(f"{keys.prefix}:executions:{job_id}", "x")

    deliver(redis, keys, store)

    assert (len(store.ids()), waiting(redis, keys)) == (1, 0)


def test_junk_in_the_ledger(redis: Redis, keys: Keys) -> None:
    """The count starts again; events are settled."""
    store = FakeStore()
    redis.hset(keys.ledger, mapping={"written:text_generation": "x", "accepted:text_generation": "1e99"})
    enqueue(redis, keys, [envelope(text())])

    deliver(redis, keys, store)

    assert redis.hget(keys.ledger, "written:text_generation") == b"1"
    assert read_ledger(redis, keys).total.written == 1


@pytest.mark.parametrize(
    "junk", ["x", "[]", "{}", "null", '{"reason":5}', '{"reason":"a","dead":"x","seen":1,"since":1}']
)
def test_junk_in_the_breakers_hash(redis: Redis, keys: Keys, junk: str) -> None:
    """It stops no type."""
    store = FakeStore()
    redis.hset(keys.birdfeed("breaker"), mapping={"text_generation": junk})
    redis.hset(keys.birdfeed("breaker-off"), mapping={"text_generation": "x"})
    redis.hset(keys.birdfeed("breaker-window:text_generation"), mapping={"all": "x", "dead:invalid": "x"})
    enqueue(redis, keys, [envelope(text())])

    deliver(redis, keys, store)

    assert len(store.ids()) == 1
    assert circuit_breaker.tripped(redis, keys) == {}
    assert circuit_breaker.disabled(redis, keys, time.time()) == {}
    assert read_status(redis, keys, time.time()).tripped == {}


@pytest.mark.parametrize("junk", ["x", "nan", "inf", "1e300", "99999999999"])
def test_junk_in_the_limiters_hash(redis: Redis, keys: Keys, junk: str) -> None:
    """No worker waits for an impossible time."""
    store = FakeStore()
    fields = ("backoff_until", "backoff_at", "failures", "probe_until", "next_request", "next_byte", "last_success")
    redis.hset(keys.birdfeed("destination:llm_events"), mapping=dict.fromkeys(fields, junk))
    enqueue(redis, keys, [envelope(text())])

    deliver(redis, keys, store)

    assert len(store.ids()) == 1


def test_the_most_lines_of_a_batch() -> None:
    """Twice as many as a producer can be configured to send are read."""
    head = '{"version":1,"batch_id":"b","event_type":"t","count":1}'
    read = split_batch("\n".join([head, *["{}"] * MAX_LINES]))

    assert isinstance(read, Batch)
    assert len(read.lines) == MAX_LINES
    with pytest.raises(WireError, match="more than 20000 lines"):
        split_batch("\n".join([head, *["{}"] * (MAX_LINES + 1)]))


@pytest.mark.heavy
def test_a_job_that_unpacks_to_too_much() -> None:
    """It is not decoded."""
    with pytest.raises(WireError, match="unpacks to more than"):
        unpack(odd_jobs.DEADLY["a bomb"]())


class Fails:
    """Fails on jobs by their id, like a bug of our own, in a stage that processes jobs together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ids: str, error: Exception | None = None) -> None:
        self.ids = ids
        real = decode

        def decode_or_fail(jobs: list[ReservedJob], *more: Any) -> Any:
            if any(job.id in ids for job in jobs):
                raise error or RuntimeError("a fault of ours")
            return real(jobs, *more)

        monkeypatch.setattr(module, "decode", decode_or_fail)


def test_a_bug_of_ours_on_one_job(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """That job is dead-lettered as internal_error with its data; the others are written, once."""
    store = FakeStore()
    ids = [accept(redis, keys, events(2)) for _ in range(3)]
    data = redis.hget(keys.job(ids[1]), "data")
    Fails(monkeypatch, ids[1])

    deliver(redis, keys, store)

    assert len(store.ids()) == len(set(store.ids())) == 4
    (letter,) = dead_letters_of(redis, keys)
    assert (letter.reason, letter.events) == ("internal_error", 2)
    assert letter.detail == "birdfeed's own code failed on this job: RuntimeError"
    assert redis.hget(keys.job(letter.id), "data") == data
    assert read_ledger(redis, keys).balanced
    monkeypatch.undo()
    assert replay(redis, keys).events == 2
    deliver(redis, keys, store)
    assert len(set(store.ids())) == 6


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), ResponseError("WRONGTYPE Operation against a key")])
def test_a_bug_of_unknown_cause(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """If no event of the type was delivered, none is dead-lettered: the jobs wait, and are suspects."""
    store = FakeStore()
    ids = [accept(redis, keys, events(1)) for _ in range(3)]
    Fails(monkeypatch, *ids, error=error)

    deliver(redis, keys, store)

    assert (redis.zcard(keys.failed), redis.llen(keys.queue_list)) == (0, 0)
    for job_id in ids:
        assert (redis.zscore(keys.scheduled, job_id) or 0) - time.time() == pytest.approx(module.FAILED_WAIT, abs=10)


def test_many_bugs_of_ours_trip_the_breaker(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad deploy of ours doesn't dead-letter all events."""
    store = FakeStore()
    good = accept(redis, keys, events(1))
    bad = [accept(redis, keys, events(40)) for _ in range(5)]
    Fails(monkeypatch, *bad)

    deliver(redis, keys, store)

    assert redis.exists(keys.done(good))
    assert circuit_breaker.tripped(redis, keys)["text_generation"].reason == "internal_error"
    assert (redis.zcard(keys.failed), redis.zcard(keys.scheduled)) == (2, 3)
    assert read_ledger(redis, keys).balanced


def test_redis_away_is_not_an_error_of_a_job(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop handles it."""
    job_id = accept(redis, keys, events(1))
    Fails(monkeypatch, job_id, error=RedisConnectionError("gone"))

    with pytest.raises(RedisConnectionError):
        deliver(redis, keys, FakeStore())

    assert redis.zcard(keys.failed) == 0


def test_what_was_sent_before_the_bug_is_verified(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are already in the store are not sent again when their jobs are delivered alone."""
    store, clock = FakeStore(), Clock()
    accept(redis, keys, events(2))
    accept(redis, keys, events(2))
    delivery = delivery_of(redis, keys, store, clock=clock)
    judge, calls = delivery.breaker.judge, list[int]()

    def fails_once(items: list[Item], jobs: dict[str, ReservedJob]) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("after the rows were sent")
        judge(items, jobs)

    monkeypatch.setattr(delivery.breaker, "judge", fails_once)
    delivery.deliver(reserve_all(redis, keys))

    assert len(store.ids()) == len(set(store.ids())) == 4
    assert (waiting(redis, keys), redis.zcard(keys.failed)) == (0, 0)
    assert redis.hget(keys.ledger, "written:text_generation") == b"4"


def test_many_invalid_events_trip_the_breaker(redis: Redis, keys: Keys) -> None:
    """If most of a type's events fail for one reason, they wait instead; the valid ones are written."""
    store = FakeStore()
    accept(redis, keys, [envelope({"usage": 1}) for _ in range(120)])
    accept(redis, keys, events(2))

    deliver(redis, keys, store)

    assert circuit_breaker.tripped(redis, keys)["text_generation"].reason == "invalid"
    assert (len(store.ids()), redis.zcard(keys.failed), redis.zcard(keys.scheduled)) == (2, 0, 1)


def test_poison_events_are_dead_lettered_undecoded(redis: Redis, keys: Keys) -> None:
    """Of a job with three events the confirmed one is dead-lettered and never parsed; the others are written, and so is
    the event with the same number in another job.
    """
    store = FakeStore()
    deadly = events(3)
    job_id = accept(redis, keys, deadly)
    accept(redis, keys, events(3))

    delivery_of(redis, keys, store).deliver(reserve_all(redis, keys), frozenset({(job_id, 1)}))

    (letter,) = dead_letters_of(redis, keys)
    assert (letter.reason, letter.events, len(store.ids())) == (POISON.reason, 1, 5)
    assert letter.batch is not None
    assert deadly[1].event_id in letter.batch.lines[0].decode()


def test_a_job_that_kills_workers_as_a_whole_is_dead_lettered_undecoded(redis: Redis, keys: Keys) -> None:
    """With its data unchanged; the others are written."""
    store = FakeStore()
    job_id = accept(redis, keys, events(2))
    accept(redis, keys, events(1))
    data = redis.hget(keys.job(job_id), "data")

    delivery_of(redis, keys, store).deliver(reserve_all(redis, keys), frozenset({(job_id, None)}))

    (letter,) = dead_letters_of(redis, keys)
    assert (letter.reason, letter.detail, letter.events) == (POISON.reason, POISON.detail, 2)
    assert redis.hget(keys.job(letter.id), "data") == data
    assert len(store.ids()) == 1


def test_redis_goes_away_while_jobs_are_delivered_alone(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then, too, it is not an error of the job."""
    ids = [accept(redis, keys, events(1)) for _ in range(2)]
    errors = [RuntimeError("a fault of ours"), RedisConnectionError("gone")]

    def fail(jobs: list[ReservedJob], *more: Any) -> Any:
        raise errors.pop(0)

    monkeypatch.setattr(module, "decode", fail)
    with pytest.raises(RedisConnectionError):
        deliver(redis, keys, FakeStore())

    assert errors == []
    assert [redis.hget(keys.job(job_id), "status") for job_id in ids] == [b"started"] * 2


def test_an_unknown_type(redis: Redis, keys: Keys) -> None:
    """Its events are dead-lettered with their own reason, and can be replayed when a worker knows the type."""
    odd_jobs.put(redis, keys, data=odd_jobs.packed(odd_jobs.header(event_type="no_such"), odd_jobs.line()))

    deliver(redis, keys, FakeStore())

    (letter,) = dead_letters_of(redis, keys)
    assert (letter.reason, letter.event_type) == ("unknown_event_type", "no_such")
