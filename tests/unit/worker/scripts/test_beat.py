"""beat.lua: a worker's entry in rq's format."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support.worker.lua import Scripts

WORKER = "rq:worker:w"
ENTRY = ("hostname", "h", "pid", "7")


def beat(run: Scripts, jobs: int = 0, dead: int = 0) -> None:
    assert run("beat", "w", 90, "now", "busy", jobs, dead, *ENTRY) == 1


def test_an_entry_is_created(run: Scripts) -> None:
    """With all fields, among the workers of all queues and of this one, with an expiry."""
    beat(run)

    assert run.all() == {
        WORKER: {"hostname": "h", "pid": "7", "last_heartbeat": "now", "state": "busy"},
        "rq:workers": {WORKER},
        "rq:workers:birdfeed": {WORKER},
    }
    assert 80 < run.redis.ttl(WORKER) <= 90


def test_an_existing_entry_is_not_written_again(run: Scripts) -> None:
    """Only the changed fields; its expiry starts again."""
    run.redis.hset(WORKER, mapping={"hostname": "other", "state": "idle"})
    run.redis.expire(WORKER, 5)

    beat(run)

    assert run.all()[WORKER] == {"hostname": "other", "last_heartbeat": "now", "state": "busy"}
    assert run.redis.ttl(WORKER) > 80


def test_jobs_are_counted(run: Scripts) -> None:
    """Added to the earlier ones; junk is replaced, and zero jobs write nothing."""
    run.redis.hset(WORKER, mapping={"hostname": "h", "successful_job_count": "5", "failed_job_count": "x"})
    beat(run, 3, 2)
    found = run.all()[WORKER]
    assert (found["successful_job_count"], found["failed_job_count"]) == ("8", "2")

    run.redis.hdel(WORKER, "successful_job_count", "failed_job_count")
    beat(run, 3, 0)
    assert "failed_job_count" not in run.all()[WORKER]
    run.redis.hdel(WORKER, "successful_job_count")
    beat(run, 0, 2)
    assert "successful_job_count" not in run.all()[WORKER]


@pytest.mark.parametrize(("key", "kind"), [(WORKER, "hash"), ("rq:workers", "set"), ("rq:workers:birdfeed", "set")])
def test_a_key_of_another_kind_is_named(run: Scripts, key: str, kind: str) -> None:
    """And nothing is written."""
    run.redis.rpush(key, "x")
    before: Any = run.all()

    with pytest.raises(ResponseError, match=f"WRONGKIND {key} holds a list, not a {kind}"):
        beat(run)

    assert run.all() == before
