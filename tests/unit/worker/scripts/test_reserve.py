"""reserve.lua: jobs are given to a worker."""

from typing import Any

import pytest

from tests.support.worker.lua import ON_A_REAL_SERVER, Scripts, lease

SOON, PAST = 50.0, -50.0


def reserve(
    run: Scripts, *, jobs: int = 9, events: int = 99, size: int = 999, execution: str = "e", entries: int = 99
) -> tuple[dict[str, Any], str]:
    """Reserve; returns the jobs by id, and whether it stopped at the limit of entries."""
    stopped, *answer = run("reserve", "w", 20, jobs, events, size, execution, entries)
    hashes = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in answer[1::2]]
    return dict(zip(answer[::2], hashes, strict=True)), stopped


def test_all_that_a_reservation_writes(run: Scripts) -> None:
    """The job, its lease, and rq's entries, which all end by themselves."""
    run.put(queue=["a"], job_a={"status": "queued", "bf_events": "2", "bf_bytes": "5", "bf_type": "t"})
    run.redis.expire(run.key("job_a"), 60)
    at = run.now()

    found, stopped = reserve(run)

    job = run.read("job_a")
    assert found == {"a": job}
    assert stopped == "0"
    taken = float(job.pop("bf_first_taken"))
    assert taken == pytest.approx(at, abs=30)
    assert job == {
        "status": "started", "worker_name": "w", "bf_attempts": "1", "bf_events": "2", "bf_bytes": "5", "bf_type": "t"
    }  # fmt: skip
    entry = run.read("execution_a:e")
    times = [float(entry.pop(name)) for name in ("created_at", "last_heartbeat")]
    assert times == pytest.approx([at, at], abs=30)
    assert entry == {"id": "e", "job_id": "a", "worker_name": "w"}
    assert run.read("wip") == {"a:e": pytest.approx(taken + 20, abs=0.01)}
    assert run.read("executions_a") == {"e": pytest.approx(taken + 80, abs=0.01)}
    assert run.read("holds_w") == {"a:e"}
    lives = {name: run.redis.ttl(run.key(name)) for name in ("job_a", "execution_a:e", "executions_a", "holds_w")}
    assert lives.pop("job_a") == -1
    assert all(3_500 < seconds <= 3_600 for seconds in lives.values()), lives
    assert set(run.all()) == {run.key(name) for name in ("job_a", "wip", "execution_a:e", "executions_a", "holds_w")}


def test_nothing_is_reserved_while_suspended(run: Scripts) -> None:
    """By `rq suspend`; nor is anything changed, not even this worker's own jobs."""
    run.put(queue=["a"], job_a={"bf_events": "1"}, job_b={"status": "started"}, wip={"b:f": 5}, holds_w={"b:f"})
    run.redis.set(f"{run.keys.prefix}:suspended", 1)
    before = run.all()

    assert reserve(run) == ({}, "suspended")

    assert run.all() == before


def test_nothing_waits(run: Scripts) -> None:
    assert reserve(run) == ({}, "0")
    assert run.all() == {}


@pytest.mark.parametrize(
    ("fields", "left", "ledger"),
    [
        # A job that no birdfeed producer made is counted from here on.
        ({"data": "z"}, {"data": "z", "bf_events": "1", "bf_type": "unknown"}, {"accepted:unknown": "1"}),
        ({"bf_type": "t"}, {"bf_events": "1", "bf_type": "t"}, {"accepted:t": "1"}),
        # A count that is junk is one event, and was counted.
        ({"bf_events": "x", "bf_type": "t"}, {"bf_events": "1", "bf_type": "t"}, None),
        ({"bf_events": "1000001"}, {"bf_events": "1"}, None),
        ({"bf_events": "1000000"}, {"bf_events": "1000000"}, None),
        # rq requeued a dead letter.
        (
            {"bf_events": "3", "bf_reason": "invalid", "bf_type": "t", "bf_dead": "z"},
            {"bf_events": "3", "bf_type": "t"},
            {"dead:t:invalid": "-3", "fell:dead:t:invalid": "3"},
        ),
        (
            {"bf_events": "3", "bf_reason": "x"},
            {"bf_events": "3"},
            {"dead:unknown:x": "-3", "fell:dead:unknown:x": "3"},
        ),
        ({"bf_events": "3", "bf_reason": ""}, {"bf_events": "3", "bf_reason": ""}, None),
        # Attempts and times that are junk start again.
        ({"bf_events": "1", "bf_attempts": "x"}, {"bf_events": "1"}, None),
    ],
    ids=str,
)
def test_the_fields_of_a_job(
    run: Scripts, fields: dict[str, str], left: dict[str, str], ledger: dict[str, str] | None
) -> None:
    run.put(queue=["a"], job_a={"status": "queued", **fields})

    assert list(reserve(run)[0]) == ["a"]

    job = run.read("job_a")
    assert float(job.pop("bf_first_taken")) == pytest.approx(run.now(), abs=30)
    assert job == {"status": "started", "worker_name": "w", "bf_attempts": "1", **left}
    assert run.read("ledger") == ledger


@pytest.mark.parametrize(("before", "kept"), [("1600000000.5", True), ("x", False), ("-1", False), ("1e11", False)])
def test_the_time_of_the_first_reservation(run: Scripts, before: str, kept: bool) -> None:
    """It stays, if it is a time; attempts are counted."""
    run.put(queue=["a"], job_a={"status": "queued", "bf_events": "1", "bf_first_taken": before, "bf_attempts": "4"})

    reserve(run)

    assert (run.read("job_a")["bf_first_taken"] == before) == kept
    assert run.read("job_a")["bf_attempts"] == "5"


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        ({}, "abc"),
        ({"jobs": 2}, "ab"),
        ({"events": 3}, "a"),
        ({"events": 4}, "ab"),
        ({"size": 9}, "a"),
        ({"size": 10}, "ab"),
        ({"events": 1, "size": 1}, "a"),
    ],
    ids=str,
)
def test_each_limit(run: Scripts, limits: dict[str, Any], taken: str) -> None:
    """At least one job; those over the limit stay first in the queue, unchanged."""
    run.put(queue=list("abc"), **{f"job_{name}": {"bf_events": "2", "bf_bytes": "5"} for name in "abc"})

    found, stopped = reserve(run, **limits)

    assert ("".join(found), stopped) == (taken, "0")
    left = "abc"[len(taken) :]
    assert run.read("queue") == (list(left) or None)
    assert [run.read(f"job_{name}") for name in left] == [{"bf_events": "2", "bf_bytes": "5"}] * len(left)


def test_the_number_of_entries_is_bounded(run: Scripts) -> None:
    """The answer says that it stopped there."""
    run.put(queue=["gone"] * 3 + ["a", "b"], job_a={"bf_events": "1"}, job_b={"bf_events": "1"})

    assert reserve(run, entries=3) == ({}, "1")
    assert run.read("queue") == ["a", "b"]
    found, stopped = reserve(run, entries=1, execution="f")
    assert (list(found), stopped) == (["a"], "1")


@pytest.mark.parametrize(
    ("status", "where", "waits"),
    [
        ("queued", None, True),
        ("queued", "scheduled", True),
        ("queued", "failed", True),
        ("queued", "held", True),
        (None, None, True),
        ("scheduled", None, True),
        ("started", None, True),
        ("failed", None, True),
        ("started", "run out", True),
        (None, "scheduled", False),
        ("failed", "failed", False),
        ("scheduled", "scheduled", False),
        ("started", "held", False),
        ("finished", None, False),
        ("canceled", None, False),
        ("stopped", None, False),
        ("deferred", None, False),
    ],
)
def test_which_entries_wait(run: Scripts, status: str | None, where: str | None, waits: bool) -> None:
    """The copied entry of a job that is somewhere else, or finished, is dropped; the job isn't changed."""
    run.put(queue=["a"], job_a={"bf_events": "1", **({"status": status} if status else {})})
    if where in ("scheduled", "failed"):
        run.put(**{where: {"a": 5}})
    elif where:
        lease(run, a_other=SOON if where == "held" else PAST)
        run.redis.delete(run.key("holds_w"))
    before = run.read("job_a")

    found, _ = reserve(run)

    assert list(found) == (["a"] if waits else [])
    assert run.read("queue") is None
    if waits:
        assert list(run.read("wip")) == ["a:e"], "leases of others on it end here"
        assert run.read("executions_a").keys() == {"e"}
        assert run.read("execution_a:other") is None
    else:
        assert run.read("job_a") == before


def test_a_job_of_another_kind_is_not_a_job(run: Scripts) -> None:
    run.put(queue=["a", "b"], job_a="text", job_b={"bf_events": "1"})

    assert list(reserve(run)[0]) == ["b"]
    assert run.read("job_a") == "text"


def test_leases_of_another_kind(run: Scripts) -> None:
    """If rq's entries are of another kind they are deleted, and no worker has the job."""
    run.put(queue=["a"], job_a={"status": "started", "bf_events": "1"}, executions_a="text")

    assert list(reserve(run)[0]) == ["a"]
    assert run.read("executions_a").keys() == {"e"}


@ON_A_REAL_SERVER
@pytest.mark.parametrize(("name", "kept"), [("a-B_9", True), ("a:b", False), ("x" * 200, True), ("x" * 201, False)])
def test_an_id_that_rq_would_refuse(run: Scripts, name: str, kept: bool) -> None:
    """The job gets another one; nothing is left under the old one."""
    run.redis.rpush(run.key("queue"), name, "gone:too")
    run.redis.hset(f"rq:job:{name}", "bf_events", "1")

    (found,) = reserve(run)[0]

    assert (found == name) == kept
    assert kept or found.startswith("renamed-")
    assert [key for key in run.all() if key.startswith("rq:job:")] == [f"rq:job:{found}"]


def test_a_repeated_call_returns_the_same(run: Scripts) -> None:
    """Leased again, from now on; nothing is added, and nothing counted."""
    run.put(queue=["a"], job_a={"bf_events": "1"})
    first, _ = reserve(run)
    run.put(queue=["b"], job_b={"bf_events": "1"}, wip={"a:e": run.now() - 5})

    again, _ = reserve(run)

    assert again == first
    assert run.read("wip")["a:e"] > run.now()
    assert run.read("queue") == ["b"]


@pytest.mark.parametrize(
    ("status", "leased", "goes_back"),
    [("started", True, True), ("started", False, False), ("finished", True, False), (None, True, False)],
)
def test_jobs_from_an_earlier_reservation(run: Scripts, status: str | None, leased: bool, goes_back: bool) -> None:
    """A job goes back into the queue if the worker still has it; otherwise only its entry is deleted."""
    run.put(job_a={"bf_events": "1", **({"status": status} if status else {})})
    lease(run, a_old=SOON)
    if not leased:
        run.redis.zrem(run.key("wip"), "a:old")
    before = run.read("job_a")

    found, _ = reserve(run, jobs=0)

    assert found == {}
    assert run.read("holds_w") is None
    assert run.read("queue") == (["a"] if goes_back else None)
    assert run.read("job_a") == ({**before, "status": "queued"} if goes_back else before)
    if goes_back:
        assert (run.read("wip"), run.read("execution_a:old"), run.read("executions_a")) == (None, None, None)


def test_a_job_that_another_worker_has_too(run: Scripts) -> None:
    """Its own lease is deleted, the other's and the job stay."""
    run.put(job_a={"status": "started", "bf_events": "1"})
    lease(run, a_old=SOON, a_other=SOON)
    run.redis.srem(run.key("holds_w"), "a:other")

    assert reserve(run)[0] == {}

    assert run.read("queue") is None
    assert run.read("job_a")["status"] == "started"
    assert list(run.read("wip")) == ["a:other"]
