"""Batches in Redis: rq jobs, each enqueued and counted once, with any failure."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from birdfeed.encoding.batch import PackedBatch, pack
from birdfeed.transport.connection import connect
from birdfeed.transport.enqueuer import Enqueuer, NotReplicatedError, Outcome, job_fields
from birdfeed_schemas.wire.keys import BYTES_FIELD, EVENTS_FIELD, JOB_FUNCTION, TYPE_FIELD, Keys
from redis import Redis
from rq import Queue, Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer


def batch(events: int = 2) -> PackedBatch:
    return pack("text_generation", [b'{"a":1}'] * events, compression=1)


@pytest.fixture
def enqueuer(valkey_url: str, keys: Keys) -> Iterator[Enqueuer]:
    made = Enqueuer(connect(valkey_url, timeout=1.0), keys)
    yield made
    made.close()


def test_the_jobs_fields_are_rqs_own(redis: Redis) -> None:
    """Every field rq writes for such a job, with the same value; besides them only birdfeed's."""
    one = batch()
    job = Job.create(
        func=JOB_FUNCTION,
        args=("packed",),
        id=one.id,
        connection=redis,
        serializer=JSONSerializer,
        origin="birdfeed",
        status=JobStatus.QUEUED,
        timeout=180,
        result_ttl=60,
        failure_ttl=-1,
        description="birdfeed: 2 text_generation",
        retry=Retry(max=1_000_000),
    )
    theirs = {name: value for name, value in job.to_dict().items() if name not in {"data", "created_at"}}
    # Without intervals rq retries at once, as it does with its default of [0].
    assert theirs.pop("retry_intervals") == "[0]"
    ours = job_fields(one, "birdfeed")

    own = {EVENTS_FIELD: 2, TYPE_FIELD: "text_generation", BYTES_FIELD: one.size}
    assert {name: ours.pop(name) for name in own} == own
    assert {name for name in ours if name.endswith("_at") and ours[name]} == {"created_at", "enqueued_at"}
    for name in ("data", "created_at", "enqueued_at"):
        ours.pop(name)
    assert ours == theirs


def test_rq_fetches_the_job_and_counts_the_queue(redis: Redis, enqueuer: Enqueuer) -> None:
    """Like `rq info` and rq-dashboard."""
    one = batch()
    assert enqueuer.enqueue([one]).outcomes == [Outcome.ACCEPTED]

    queue = Queue("birdfeed", connection=redis, serializer=JSONSerializer)
    assert queue in Queue.all(redis)
    assert queue.job_ids == [one.id]
    job = Job.fetch(one.id, connection=redis, serializer=JSONSerializer)
    assert job.get_status() is JobStatus.QUEUED
    assert job.func_name == JOB_FUNCTION
    assert job.retries_left == 1_000_000
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (180, 60, -1)
    assert job.enqueued_at is not None


def test_a_batch_is_enqueued_and_counted_once(redis: Redis, keys: Keys, enqueuer: Enqueuer) -> None:
    """However often it is sent, alone or with others."""
    one, other = batch(2), batch(3)

    assert enqueuer.enqueue([one, other]).outcomes == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert enqueuer.enqueue([one]).outcomes == [Outcome.KNOWN]
    assert enqueuer.enqueue([other, one]).outcomes == [Outcome.KNOWN, Outcome.KNOWN]

    assert redis.lrange(keys.queue_list, 0, -1) == [one.id.encode(), other.id.encode()]
    assert redis.hgetall(keys.ledger) == {b"accepted:text_generation": b"5"}


def test_a_settled_batch_is_not_enqueued_again(redis: Redis, keys: Keys, enqueuer: Enqueuer) -> None:
    """Its job is deleted, but the worker left a mark."""
    one = batch()
    redis.set(keys.done(one.id), "1")

    assert enqueuer.enqueue([one]).outcomes == [Outcome.KNOWN]
    assert redis.llen(keys.queue_list) == 0


def test_a_script_that_fails_in_the_middle_leaves_nothing_that_counts_as_done(
    redis: Redis, keys: Keys, enqueuer: Enqueuer
) -> None:
    """Scripts are not rolled back; the next try must not find the job and count it as done."""
    one = batch()
    redis.set(keys.ledger, "in the way")
    assert enqueuer.enqueue([one]).outcomes == [Outcome.REFUSED]
    assert not redis.exists(keys.job(one.id))

    redis.delete(keys.ledger)
    assert enqueuer.enqueue([one]).outcomes == [Outcome.ACCEPTED]
    assert redis.exists(keys.job(one.id))


def test_the_script_is_loaded_again_if_redis_lost_it(redis: Redis, keys: Keys, enqueuer: Enqueuer) -> None:
    """After a restart or a failover, in the same call."""
    enqueuer.enqueue([batch()])
    redis.script_flush()

    assert enqueuer.enqueue([batch(), batch()]).outcomes == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert redis.hget(keys.ledger, "accepted:text_generation") == b"6"


def test_a_refused_connection_means_nothing_was_sent(keys: Keys) -> None:
    """So the batch need not be marked."""
    answer = Enqueuer(connect("redis://127.0.0.1:1/0", timeout=0.5), keys).enqueue([batch()])

    assert answer.outcomes == [Outcome.REFUSED]
    assert answer.error is not None


def test_an_answer_that_never_comes_leaves_the_batch_unknown(keys: Keys) -> None:
    """The server took the bytes and said nothing."""
    with _server_that_answers(b"+OK\r\n") as url:
        answer = Enqueuer(connect(url, timeout=1.5), keys).enqueue([batch()])

    assert answer.outcomes == [Outcome.UNKNOWN]


@pytest.mark.parametrize(
    ("config", "value", "error"),
    [("maxmemory", "1", "OutOfMemoryError"), ("min-replicas-to-write", "1", "ResponseError")],
)
def test_a_server_that_refuses_to_write_has_nothing(
    redis: Redis, keys: Keys, enqueuer: Enqueuer, config: str, value: str, error: str
) -> None:
    """It is full, or has too few replicas."""
    redis.config_set(config, value)
    try:
        answer = enqueuer.enqueue([batch()])
    finally:
        redis.config_set(config, "0")

    assert answer.outcomes == [Outcome.REFUSED]
    assert type(answer.error).__name__ == error
    assert redis.keys("rq:*") == []


def test_reports_of_drops_are_counted_once(redis: Redis, keys: Keys, enqueuer: Enqueuer) -> None:
    """Each drop counts as accepted and as dropped, so that the ledger balances."""
    drops = {("text_generation", "spool_full"): 3, ("unknown", "bad_call"): 2}
    assert enqueuer.report("r1", drops) is None
    assert enqueuer.report("r1", drops) is None

    assert redis.hgetall(keys.ledger) == {
        b"accepted:text_generation": b"3",
        b"dropped:text_generation:spool_full": b"3",
        b"accepted:unknown": b"2",
        b"dropped:unknown:bad_call": b"2",
    }


def test_a_batch_on_too_few_replicas_counts_as_unknown(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """With wait_replicas=1 and no replica: it is in Redis, but a failover would lose it."""
    enqueuer = Enqueuer(connect(valkey_url, timeout=5), keys, wait_replicas=1, timeout=0.2)

    for _ in range(2):  # the second time the batch is known and nothing would be written but the mark WAIT needs
        answer = enqueuer.enqueue([batch()])
        assert answer.outcomes == [Outcome.UNKNOWN]
        assert isinstance(answer.error, NotReplicatedError)
        assert str(answer.error) == "0 of 1 replicas had the batches in time"
    enqueuer.close()


@contextmanager
def _server_that_answers(answer: bytes) -> Iterator[str]:
    """Answers the connection's handshake, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            # The client may have closed the connection, or the test may be over.
            with suppress(OSError), server.accept()[0] as connection:
                while received := connection.recv(65536):
                    if b"EVALSHA" not in received:
                        connection.sendall(answer * received.count(b"CLIENT"))

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
