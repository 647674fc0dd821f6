"""Every internal of rq that birdfeed uses: an rq upgrade that changes one fails here, not in production."""

import inspect
import json
import zlib
from typing import Any

import rq
from birdfeed_schemas.wire.keys import JOB_FUNCTION, Keys
from birdfeed_worker.queue.codec import pack
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis
from rq import Queue, SimpleWorker
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import Worker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from tests.support.events import enqueue, envelope, text


def test_the_version_with_which_we_tested() -> None:
    """rq >= 3.0, < 3.1: we use internals."""
    assert rq.__version__.startswith("3.0.")


def test_names_of_keys() -> None:
    """The scripts write these names themselves."""
    assert WORKER_EXECUTIONS_KEY_TEMPLATE.format("w") == "rq:worker:w:executions"
    assert ExecutionRegistry.key_template.format("j") == "rq:executions:j"
    assert Execution("e", "j", None).key == "rq:execution:j:e"  # type: ignore[arg-type]
    assert Result.get_key("j") == "rq:results:j"
    assert SimpleWorker.redis_worker_namespace_prefix == "rq:worker:"
    assert REDIS_WORKER_KEYS == "rq:workers"
    assert WORKERS_BY_QUEUE_KEY % "q" == "rq:workers:q"


def test_statuses_and_result_types() -> None:
    """The scripts write these words."""
    assert [s.value for s in (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED, JobStatus.FAILED)] == [
        "queued",
        "started",
        "scheduled",
        "failed",
    ]
    assert Result.Type.FAILED.value == 2


def test_job_data_is_zlib_over_json(redis: Redis) -> None:
    """What we write, rq reads; what rq writes, we read."""
    job = Job.create(JOB_FUNCTION, args=("packed",), connection=redis, serializer=JSONSerializer)
    assert zlib.decompress(job.to_dict()["data"]) == json.dumps([JOB_FUNCTION, None, ["packed"], {}]).encode()

    ours = Job("x", connection=redis, serializer=JSONSerializer)
    ours.data = zlib.decompress(pack("packed"))
    assert (ours.func_name, list(ours.args), ours.kwargs) == (JOB_FUNCTION, ["packed"], {})


def test_what_our_worker_overrides_and_calls() -> None:
    """Names and parameters of SimpleWorker's that Worker uses."""
    for name in (
        "request_stop",
        "request_force_stop",
        "work",
        "register_birth",
        "register_death",
        "get_state",
        "set_state",
        "check_for_suspension",
        "_install_signal_handlers",
    ):
        assert callable(getattr(SimpleWorker, name)), name
    parameters = inspect.signature(SimpleWorker.__init__).parameters
    assert {"name", "connection", "serializer", "prepare_for_work"} <= parameters.keys()
    assert WORKERS_SUSPENDED == "rq:suspended"


def test_rqs_own_clean_up_of_an_abandoned_job_brings_it_back(redis: Redis, keys: Keys) -> None:
    """`rq info` cleans the started registry with rq's own code: our job is queued again, unchanged, not failed."""
    batch_id = enqueue(redis, keys, [envelope(text())])
    redis.hset(keys.job(batch_id), "retries_left", 1_000_000)
    (job,) = Reserver(redis, keys, "lost", 20).reserve(jobs=1, events=10, size=10**7)
    redis.zadd(keys.started, {f"{job.id}:{job.execution}": 1})

    StartedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).cleanup()

    assert FailedJobRegistry(keys.queue, connection=redis).get_job_ids() == []
    (again,) = Reserver(redis, keys, "other", 20).reserve(jobs=1, events=10, size=10**7)
    assert (again.id, again.attempts) == (batch_id, 2)


def test_rqs_registries_read_what_our_scripts_write(redis: Redis, keys: Keys) -> None:
    """A reserved job is started for rq, with its worker; `Worker.all` and the registries agree."""
    batch_id = enqueue(redis, keys, [envelope(text())])
    Reserver(redis, keys, "w1", 20).reserve(jobs=1, events=10, size=10**7)
    queue = Queue(keys.queue, connection=redis, serializer=JSONSerializer)
    worker: Any = Worker([queue], name="w1", connection=redis, serializer=JSONSerializer, prepare_for_work=False)

    assert StartedJobRegistry(queue=queue).get_job_ids() == [batch_id]
    assert [one.job_id for one in worker.get_current_executions()] == [batch_id]
    assert ScheduledJobRegistry(queue=queue).get_job_ids() == []
