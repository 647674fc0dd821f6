"""promote.lua, recover.lua, mark.lua and renew.lua: jobs that are due, given back, marked, renewed."""

from typing import Any

import pytest

from tests.support.worker.lua import Scripts, lease

SOON = 50.0


@pytest.mark.parametrize(
    ("job", "moves"),
    [
        ({"status": "scheduled"}, True),
        ({"x": "y"}, True),
        ({"status": "deferred"}, True),
        ({"status": "queued"}, False),
        ({"status": "started"}, False),
        ({"status": "failed"}, False),
        ({"status": "finished"}, False),
        ({"status": "canceled"}, False),
        ({"status": "stopped"}, False),
        ("text", False),
        (None, False),
    ],
    ids=str,
)
def test_due_jobs_are_queued(run: Scripts, job: Any, moves: bool) -> None:
    """Unless the job is somewhere else, or doesn't exist."""
    run.put(scheduled={"a": 5})
    if job is not None:
        run.put(job_a=job)

    assert run("promote", 10) == [1, ""]

    assert run.read("scheduled") is None
    assert run.read("queue") == (["a"] if moves else None)
    assert run.read("job_a") == ({**job, "status": "queued"} if moves else job)


def test_some_at_a_time_and_only_due_ones(run: Scripts) -> None:
    """Oldest first, to the queue's end; returns when the next one is due."""
    run.put(queue=["z"], scheduled={"a": 5, "b": 6, "c": 7, "d": 9e9})
    for name in "abcd":
        run.put(**{f"job_{name}": {"status": "scheduled"}})

    assert run("promote", 2) == [2, "7"]
    assert run.read("queue") == ["z", "a", "b"]
    assert run("promote", 2) == [1, "9000000000"]
    assert run.read("scheduled") == {"d": 9e9}


# ---- recover.lua


def jobs(run: Scripts, *names: str, **fields: str) -> None:
    for name in names:
        run.put(**{f"job_{name}": {"status": "started", "worker_name": "w", **fields}})


@pytest.mark.parametrize(("died", "suspect"), [(1, "1"), (0, None)])
def test_a_workers_jobs_go_back(run: Scripts, died: int, suspect: str | None) -> None:
    """To the queue's front; the worker's leases are deleted."""
    run.put(queue=["z"])
    jobs(run, "a")
    lease(run, a_e=SOON)

    assert run("recover", "w", died, 10) == ["a"]

    made = {} if suspect is None else {"bf_suspect": suspect}
    assert run.all() == {
        run.key("queue"): ["a", "z"], run.key("job_a"): {"status": "queued", "worker_name": "w", **made}
    }  # fmt: skip


@pytest.mark.parametrize("change", ["another worker has it", "it is not started", "another lease", "no lease"])
def test_jobs_that_are_no_longer_the_workers(run: Scripts, change: str) -> None:
    """They are not changed; only the worker's own lease is deleted."""
    jobs(run, "a")
    lease(run, a_e=SOON)
    if change == "another worker has it":
        run.redis.hset(run.key("job_a"), "worker_name", "v")
    elif change == "it is not started":
        run.redis.hset(run.key("job_a"), "status", "scheduled")
    elif change == "another lease":
        run.put(wip={"a:f": run.now() + SOON}, executions_a={"f": 1})
    else:
        run.redis.zrem(run.key("wip"), "a:e")
    before = run.read("job_a")

    assert run("recover", "w", 1, 10) == []

    assert run.read("job_a") == before
    assert run.read("wip") == ({"a:f": pytest.approx(run.now() + SOON, abs=30)} if change == "another lease" else None)
    assert [run.read(name) for name in ("queue", "holds_w", "execution_a:e")] == [None] * 3


def test_a_lease_whose_entry_has_expired(run: Scripts) -> None:
    """rq's entry names the worker; without it the worker's own list of leases is still deleted."""
    jobs(run, "a")
    lease(run, a_e=SOON)
    run.redis.delete(run.key("execution_a:e"))

    assert run("recover", "w", 0, 10) == ["a"]

    assert set(run.all()) == {run.key("queue"), run.key("job_a")}


def test_expired_leases(run: Scripts) -> None:
    """Of any worker, in order, some at a time; entries that name no lease are removed."""
    jobs(run, "a", "b", "c", "d", worker_name="v")
    lease(run, a_e=-9, b_e=-8, c_e=-7, d_e=SOON)
    run.put(wip={"nothing": 1})

    assert run("recover", "", 0, 3) == ["a", "b"]

    assert run.read("queue") == ["a", "b"]
    assert run.read("wip").keys() == {"c:e", "d:e"}
    assert run.read("holds_w") == {"c:e", "d:e"}


# ---- mark.lua and renew.lua


@pytest.mark.parametrize("lost", [None, "worker", "lease", "job"])
def test_marks(run: Scripts, lost: str | None) -> None:
    """The time, on each job that this worker still has; the others are returned."""
    jobs(run, "a", "b")
    lease(run, a_e=SOON, b_e=SOON)
    if lost == "worker":
        run.redis.hset(run.key("job_a"), "worker_name", "v")
    elif lost == "lease":
        run.redis.zrem(run.key("wip"), "a:e")
    elif lost == "job":
        run.redis.delete(run.key("job_a"))
    before = run.read("job_a")

    assert run("mark", "w", "e", "a", "b") == (["a"] if lost else [])

    marked = ["b"] if lost else ["a", "b"]
    for name in marked:
        assert float(run.read(f"job_{name}")["bf_posted"]) == pytest.approx(run.now(), abs=30)
    if lost:
        assert run.read("job_a") == before


def test_a_lease_is_renewed(run: Scripts) -> None:
    """With rq's entry; a lost one is not created again."""
    lease(run, a_e=5)

    assert run("renew", "w", 20, "e", "a", "b") == 1

    assert run.read("wip") == {"a:e": pytest.approx(run.now() + 20, abs=10)}
    assert run.read("wip")["a:e"] > run.now() + 6
    assert float(run.read("execution_a:e")["last_heartbeat"]) == pytest.approx(run.now(), abs=30)
    assert 3_500 < run.redis.ttl(run.key("execution_a:e")) <= 3_600
    assert run.read("execution_b:e") is None
