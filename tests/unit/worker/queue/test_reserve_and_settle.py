"""Jobs between queue, worker and store: every step is atomic, and rq's own registries stay correct."""

import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.model import Dead, Deferred, Outcome, Written
from birdfeed_worker.operations.replay import replay
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import NEWER_VERSION_WAIT, Settler
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from tests.support.events import enqueue, envelope, text

ALL = {"jobs": 100, "events": 10_000, "size": 10_000_000}


@pytest.fixture
def queue(redis: Redis, keys: Keys) -> Queue:
    return Queue(keys.queue, connection=redis, serializer=JSONSerializer)


@pytest.fixture
def reserver(redis: Redis, keys: Keys) -> Reserver:
    return Reserver(redis, keys, "w1", 20)


@pytest.fixture
def settler(redis: Redis, keys: Keys) -> Settler:
    return Settler(redis, keys, "w1")


def now() -> datetime:
    return datetime.now(UTC)


def test_reserve_moves_jobs_into_the_started_registry(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver
) -> None:
    """A reserved job is started, registered for its worker, and no longer in the queue."""
    batch_id = enqueue(redis, keys, [envelope(text()), envelope(text())])

    (job,) = reserver.reserve(**ALL)

    assert (job.id, job.events, job.attempts, job.maybe_written_since) == (batch_id, 2, 1, None)
    assert queue.job_ids == []
    assert StartedJobRegistry(queue=queue).get_job_ids() == [batch_id]
    fetched = Job.fetch(batch_id, connection=redis, serializer=JSONSerializer)
    assert fetched.get_status() == JobStatus.STARTED
    assert fetched.worker_name == "w1"
    assert [execution.worker_name for execution in fetched.get_executions()] == ["w1"]


def test_reserve_stops_at_the_limits_and_takes_at_least_one(redis: Redis, keys: Keys) -> None:
    """Jobs are reserved in order until one more would exceed a limit; a job over the limit is reserved alone."""
    ids = [enqueue(redis, keys, [envelope(text()) for _ in range(n)]) for n in (3, 3, 3, 9)]

    takers = [Reserver(redis, keys, f"w{number}", 20) for number in range(4)]
    taken = [[job.id for job in reserver.reserve(jobs=100, events=7, size=10**7)] for reserver in takers]

    assert taken == [ids[:2], ids[2:3], ids[3:], []]


def test_a_job_that_is_in_the_queue_twice_is_reserved_once(redis: Redis, keys: Keys, reserver: Reserver) -> None:
    """A copy of an id (an enqueue tried twice, rq's clean-up) is dropped while a worker has the job."""
    batch_id = enqueue(redis, keys, [envelope(text())])
    redis.rpush(keys.queue_list, batch_id, "a-job-that-is-gone")

    assert [job.id for job in reserver.reserve(**ALL)] == [batch_id]
    assert Reserver(redis, keys, "w2", 20).reserve(**ALL) == []


def test_a_settled_job_is_deleted(redis: Redis, keys: Keys, reserver: Reserver, settler: Settler) -> None:
    """The job's keys are all deleted, and the ledger counts the written events."""
    enqueue(redis, keys, [envelope(text()), envelope(text())])
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Written()

    totals = settler.settle(jobs, decoded, now())

    assert totals.written == 2
    assert redis.hgetall(keys.ledger) == {b"written:text_generation": b"2"}
    left = {as_text(key) for key in redis.keys("*")}
    assert left == {keys.ledger, keys.done(jobs[0].id), keys.queues}


def test_killed_between_two_steps_of_settling(
    redis: Redis, keys: Keys, reserver: Reserver, settler: Settler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More jobs than one step settles: the first step's are deleted, and the next worker of the others queries the
    store.
    """
    ids = [enqueue(redis, keys, [envelope(text())]) for _ in range(5)]
    jobs = reserver.reserve(**ALL)
    settler.mark(jobs[0].execution, ids)
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Written()
    send, sent = settler._send, list[Any]()

    def killed(*step: Any) -> frozenset[str]:
        if sent:
            raise RedisConnectionError("killed here")
        sent.append(step)
        return send(*step)

    monkeypatch.setattr("birdfeed_worker.pipeline.settle.JOBS_PER_STEP", 2)
    monkeypatch.setattr(settler, "_send", killed)
    with pytest.raises(RedisConnectionError):
        settler.settle(jobs, decoded, now())

    assert redis.hgetall(keys.ledger) == {b"written:text_generation": b"2"}
    reserver.recover("w1")
    again = Reserver(redis, keys, "w2", 20).reserve(**ALL)
    assert [job.id for job in again] == ids[2:]
    assert [job.maybe_written_since for job in again] == [pytest.approx(now().timestamp(), abs=30)] * 3
    assert all(item.verify for item in decode(again).items)


def test_settling_changes_no_job_of_another_worker(redis: Redis, keys: Keys, reserver: Reserver) -> None:
    """The fence: a worker that lost its lease can't settle a job that another one has."""
    enqueue(redis, keys, [envelope(text())])
    late = reserver.reserve(**ALL)
    assert reserver.recover("w1") == [late[0].id]
    (current,) = Reserver(redis, keys, "w2", 20).reserve(**ALL)
    decoded = decode(late)
    decoded.items[0].outcome = Written()

    totals = Settler(redis, keys, "w1").settle(late, decoded, now())

    assert (totals.written, totals.lost) == (0, 1)
    assert redis.hgetall(keys.ledger) == {}
    assert current.attempts == 2
    assert Settler(redis, keys, "w1").mark(late[0].execution, [late[0].id]) == {late[0].id}
    assert Settler(redis, keys, "w2").mark(current.execution, [current.id]) == frozenset()


def test_bad_events_become_one_dead_letter_and_the_rest_waits(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver, settler: Settler
) -> None:
    """Each event has its own outcome; the job shrinks to the remaining ones and is due at the given time."""
    events = [envelope(text()) for _ in range(5)]
    batch_id = enqueue(redis, keys, events)
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)
    due = datetime.now(UTC).timestamp() + 60
    outcomes: list[Outcome] = [
        Written(),
        Dead("invalid", "model: missing"),
        Dead("invalid", "model: missing"),
        Deferred(due, 1.5e9),
    ]
    for item, outcome in zip(decoded.items, [*outcomes, Deferred(due)], strict=True):
        item.outcome = outcome

    totals = settler.settle(jobs, decoded, now())

    assert (totals.written, totals.dead, totals.deferred) == (1, {"invalid": 2}, 2)
    scheduled = ScheduledJobRegistry(queue=queue)
    assert scheduled.get_job_ids() == [batch_id]
    assert scheduled.get_scheduled_time(batch_id).timestamp() == pytest.approx(due)
    (dead_id,) = FailedJobRegistry(queue=queue).get_job_ids()
    dead = Job.fetch(dead_id, connection=redis, serializer=JSONSerializer)
    assert dead.get_status() == JobStatus.FAILED
    assert dead.description == "birdfeed dead letter: 2 text_generation, invalid: model: missing"
    assert dead.get_meta() == {}
    assert dead.func_name == "birdfeed_worker.job.deliver"
    (letter,) = dead_letters_of(redis, keys)
    assert letter.batch is not None
    assert (letter.reason, letter.events, letter.attempts) == ("invalid", 2, 1)
    assert [events[1].event_id in line.decode() for line in letter.batch.lines] == [True, False]
    redis.zadd(keys.scheduled, {batch_id: 1})
    assert reserver.promote() is None
    (again,) = reserver.reserve(**ALL)
    assert (again.id, again.events, again.attempts, again.maybe_written_since) == (batch_id, 2, 2, 1.5e9)
    assert [item.envelope for item in decode([again]).items] == events[3:]
    assert redis.hgetall(keys.ledger) == {b"written:text_generation": b"1", b"dead:text_generation:invalid": b"2"}


def test_unprocessed_jobs_go_back_to_the_front_in_order(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver, settler: Settler
) -> None:
    """They are before all others, in their old order."""
    first, second, third = (enqueue(redis, keys, [envelope(text())]) for _ in range(3))
    jobs = reserver.reserve(jobs=2, events=10, size=10**7)
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Deferred()

    settler.settle(jobs, decoded, now())

    assert queue.job_ids == [first, second, third]
    assert Job.fetch(first, connection=redis, serializer=JSONSerializer).get_status() == JobStatus.QUEUED


def test_the_jobs_of_a_lost_worker_go_back(redis: Redis, keys: Keys, queue: Queue) -> None:
    """Jobs with an expired lease go to the front of the queue; those with a renewed one don't."""
    ids = [enqueue(redis, keys, [envelope(text())]) for _ in range(2)]
    lost = Reserver(redis, keys, "lost", 20).reserve(jobs=1, events=10, size=10**7)
    alive = Reserver(redis, keys, "alive", 20).reserve(jobs=1, events=10, size=10**7)
    redis.zadd(keys.started, {f"{job.id}:{job.execution}": 1 for job in [*lost, *alive]})
    assert Reserver(redis, keys, "alive", 20).renew(alive) == 1

    assert Reserver(redis, keys, "other", 20).recover() == [ids[0]]

    assert queue.job_ids == [ids[0]]
    assert StartedJobRegistry(queue=queue).get_job_ids(cleanup=False) == [ids[1]]


def test_a_reservation_without_an_answer_is_repeated(
    redis: Redis, keys: Keys, reserver: Reserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client repeats it with the same execution and gets the same jobs; none stays started without a worker."""
    batch_id = enqueue(redis, keys, [envelope(text())])
    monkeypatch.setattr("birdfeed_worker.queue.reserve.uuid4", lambda: type("Fixed", (), {"hex": "e1"}))
    first = reserver.reserve(**ALL)

    again = reserver.reserve(**ALL)

    assert [job.id for job in again] == [job.id for job in first] == [batch_id]
    monkeypatch.setattr("birdfeed_worker.queue.reserve.uuid4", lambda: type("Fixed", (), {"hex": "e2"}))
    assert [(job.id, job.attempts) for job in reserver.reserve(**ALL)] == [(batch_id, 2)]


def test_replay_and_requeue_bring_dead_letters_back(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver, settler: Settler
) -> None:
    """With our replay and rq's own requeue the same events are queued again, and the ledger no longer counts them as
    dead.
    """
    for _ in range(2):
        enqueue(redis, keys, [envelope(text())])
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)
    for number, item in enumerate(decoded.items):
        item.outcome = Dead("invalid", ("no model", "no user")[number])
    settler.settle(jobs, decoded, now())
    letters = list(dead_letters_of(redis, keys))
    assert redis.hget(keys.ledger, "dead:text_generation:invalid") == b"2"

    FailedJobRegistry(queue=queue).requeue(letters[0].id)
    result = replay(redis, keys)

    assert (result.letters, result.events, result.vanished) == (1, 1, 0)
    back = decode(reserver.reserve(**ALL)).items
    assert [item.line for item in back] == [item.line for item in decoded.items]
    assert all(item.verify for item in back)
    assert [bool(item.header.replay_id) for item in back] == [False, True]
    assert redis.hget(keys.ledger, "dead:text_generation:invalid") == b"0"


def test_a_job_that_is_not_ours_is_never_called(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver, settler: Settler
) -> None:
    """Any client of Redis can name any function; the job becomes a dead letter with its data unchanged."""
    queue.enqueue("os.system", "true")
    redis.rpush(keys.queue_list, "junk")
    redis.hset(keys.job("junk"), mapping={"status": "queued", "data": zlib.compress(b"not json")})
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)

    totals = settler.settle(jobs, decoded, now())

    assert totals.dead == {"undecodable": 2}
    assert {letter.batch for letter in dead_letters_of(redis, keys)} == {None}
    assert sorted(bad.detail for bad in decoded.unreadable) == [
        "the job calls a function other than birdfeed's",
        "the job's data is not rq's JSON: JSONDecodeError",
    ]


def test_a_newer_wire_version_waits_without_a_counted_attempt(
    redis: Redis, keys: Keys, queue: Queue, reserver: Reserver, settler: Settler
) -> None:
    """During a rolling deploy a job from a newer producer waits for a newer worker."""
    batch_id = enqueue(redis, keys, [envelope(text())], version=2)
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)

    settler.settle(jobs, decoded, now())

    assert decoded.newer[0][1] == 2
    assert redis.zrange(keys.scheduled, 0, -1) == [batch_id.encode()]
    due = redis.zscore(keys.scheduled, batch_id) or 0.0
    assert due == pytest.approx(now().timestamp() + NEWER_VERSION_WAIT, abs=20)


def test_a_batch_that_was_enqueued_twice(redis: Redis, keys: Keys, reserver: Reserver, settler: Settler) -> None:
    """Its events were accepted twice and are written once: the ledger corrects the second acceptance."""
    redis.hset(keys.ledger, "accepted:text_generation", 5)
    enqueue(redis, keys, [envelope(text()) for _ in range(3)])
    jobs = reserver.reserve(**ALL)
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Written(already_stored=True, duplicate_enqueue=True)
    decoded.items[0].outcome = Written(already_stored=True)

    settler.settle(jobs, decoded, now())

    counts = {
        b"accepted:text_generation": b"3",
        b"fell:accepted:text_generation": b"2",
        b"written:text_generation": b"1",
    }
    assert redis.hgetall(keys.ledger) == counts


def test_putting_off_continues_if_one_job_is_lost(
    redis: Redis, keys: Keys, reserver: Reserver, settler: Settler
) -> None:
    """Another worker has it now: the others still wait, without a lease."""
    ids = [enqueue(redis, keys, [envelope(text())]) for _ in range(3)]
    jobs = reserver.reserve(**ALL)
    redis.hset(keys.job(ids[1]), "worker_name", "w2")

    settler.put_off(jobs, 4e9)

    assert redis.zrange(keys.scheduled, 0, -1) == sorted([ids[0].encode(), ids[2].encode()])
    assert redis.hget(keys.job(ids[1]), "status") == b"started"


def test_the_first_reservation_of_a_job_is_kept(redis: Redis, keys: Keys, reserver: Reserver) -> None:
    """By Redis's clock, and it stays: a job is dead-lettered by its age."""
    batch_id = enqueue(redis, keys, [envelope(text())])
    (job,) = reserver.reserve(**ALL)
    assert job.first_reserved == pytest.approx(now().timestamp(), abs=60)

    reserver.recover("w1", died=False)
    redis.hset(keys.job(batch_id), "bf_first_taken", "1800000000.5")
    (again,) = reserver.reserve(**ALL)

    assert (again.first_reserved, again.attempts) == (1_800_000_000.5, 2)


def test_a_renewed_lease_keeps_rqs_entry_of_it(redis: Redis, keys: Keys, reserver: Reserver) -> None:
    """Its expiry moves to an hour from now, so that a delivery of hours doesn't lose it."""
    enqueue(redis, keys, [envelope(text())])
    (job,) = reserver.reserve(**ALL)
    entry = f"{keys.prefix}:execution:{job.id}:{job.execution}"
    redis.expire(entry, 60)
    redis.hset(entry, "last_heartbeat", "0")

    assert Reserver(redis, keys, "w1", 20).renew([job]) == 1

    assert redis.ttl(entry) > 3_000
    assert float(redis.hget(entry, "last_heartbeat") or 0) > 1e9
