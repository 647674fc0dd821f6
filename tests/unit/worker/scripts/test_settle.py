"""settle.lua: the outcomes of jobs, in one step."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.worker.lua import Scripts, lease

SOON = 50.0
SIZE = "dead-size"


def held(run: Scripts, *names: str, **fields: str) -> None:
    """Jobs of worker w, execution e."""
    for name in names:
        run.put(**{f"job_{name}": {"status": "started", "worker_name": "w", **fields}})
        lease(run, **{f"{name}_e": SOON})


def job(name: str, action: str, when: Any = 0, data: str = "", events: int = 0, size: int = 0, posted: str = "") -> Any:
    return [name, action, when, data, events, size, posted, "d"]


def settle(
    run: Scripts, *plans: Sequence[Any], counts: Sequence[Any] = (), dead: Sequence[Any] = (), entries: int = 0
) -> list[str]:
    flat = [word for plan in plans for word in plan]
    letters = len([one for one in dead if isinstance(one, str) and one.startswith("letter")])
    lost: list[str] = run("settle", "w", "e", 600, len(plans), *flat, len(counts) // 4, *counts, letters, *dead)
    return lost


def rest(run: Scripts) -> dict[str, Any]:
    """All keys that are left, except the queue's name among rq's queues, which must be there."""
    found = run.all()
    assert found.pop(run.key("queues")) == {run.key("queue")}
    return found


def test_a_finished_job(run: Scripts) -> None:
    """Only the number of its dead events is kept, for a while."""
    held(run, "a")
    run.put(results_a="r")

    assert settle(run, job("a", "done", events=3)) == []

    assert rest(run) == {run.key("done_a"): "3"}
    assert 500 < run.redis.ttl(run.key("done_a")) <= 600


@pytest.mark.parametrize("change", ["status", "worker", "lease", "gone"])
def test_a_lost_job_changes_nothing(run: Scripts, change: str) -> None:
    """Of any job: its id is returned."""
    held(run, "a", "b")
    if change == "status":
        run.redis.hset(run.key("job_b"), "status", "queued")
    elif change == "worker":
        run.redis.hset(run.key("job_b"), "worker_name", "v")
    elif change == "lease":
        run.redis.zrem(run.key("wip"), "b:e")
    else:
        run.redis.delete(run.key("job_b"))
    before = run.all()
    letter = ["letter", 1, "data", "z"]

    assert settle(run, job("a", "done"), job("b", "back"), counts=["written", "t", "", 1], dead=letter) == ["b"]

    assert run.all() == before


def test_jobs_that_go_back(run: Scripts) -> None:
    """To the queue's front, in order, unchanged."""
    held(run, "a", "b", data="z", bf_events="2")
    run.put(queue=["z"])

    assert settle(run, job("a", "back"), job("b", "back")) == []

    assert run.read("queue") == ["a", "b", "z"]
    assert run.read("job_a") == {"status": "queued", "worker_name": "w", "data": "z", "bf_events": "2"}
    assert run.read("wip") is None


@pytest.mark.parametrize(("action", "suspect"), [("at", None), ("suspect", "1"), ("back", None)])
def test_a_job_that_shrinks(run: Scripts, action: str, suspect: str | None) -> None:
    """The rest waits, until a time or in the queue; it is a suspect only if it wasn't tried."""
    held(run, "a", data="z", bf_events="2", bf_bytes="9", bf_suspect="1", bf_posted="5")

    assert settle(run, job("a", action, when=4e9, data="y", events=1, size=3)) == []

    status = "queued" if action == "back" else "scheduled"
    left = {"status": status, "worker_name": "w", "data": "y", "bf_events": "1", "bf_bytes": "3"}
    assert run.read("job_a") == left | ({} if suspect is None else {"bf_suspect": suspect})
    assert run.read("scheduled") == (None if action == "back" else {"a": 4e9})
    assert run.read("queue") == (["a"] if action == "back" else None)


@pytest.mark.parametrize(
    ("before", "success", "posted", "found"),
    [
        ({}, None, "200.5", {}),
        ({"bf_unknown_at": "100"}, "150", "200.5", {"bf_unknowns": "1", "bf_spent": "100.500000"}),
        (
            {"bf_unknown_at": "100", "bf_unknowns": "2", "bf_spent": "7.5"},
            "150",
            "200.5",
            {"bf_unknowns": "3", "bf_spent": "108.000000"},
        ),
        ({"bf_unknown_at": "100"}, None, "200.5", {}),
        ({"bf_unknown_at": "100"}, "100", "200.5", {}),
        ({"bf_unknown_at": "100"}, "99", "200.5", {}),
        ({"bf_unknown_at": "100"}, "150", "100", {}),
        ({"bf_unknown_at": "100"}, "150", "99", {}),
        ({"bf_unknown_at": "x"}, "150", "200.5", {}),
        ({}, "150", "200.5", {}),
    ],
    ids=str,
)
def test_an_unknown_outcome(
    run: Scripts, before: dict[str, str], success: str | None, posted: str, found: dict[str, str]
) -> None:
    """It is marked; a second unknown outcome is counted if the destination accepted others since."""
    held(run, "a", **before)
    if success is not None:
        run.put(destination_d={"last_success": success})

    assert settle(run, job("a", "at", when=5, posted=posted)) == []

    left = {**before, **found, "bf_posted": posted, "bf_unknown_at": posted}
    assert run.read("job_a") == {"status": "scheduled", "worker_name": "w", **left}


def test_a_known_outcome(run: Scripts) -> None:
    """The job no longer has a mark."""
    held(run, "a", bf_posted="5")

    settle(run, job("a", "at", when=5))

    assert "bf_posted" not in run.read("job_a")


def test_the_lease_of_another_stays(run: Scripts) -> None:
    """Only the worker's own is deleted."""
    held(run, "a")
    run.put(wip={"a:f": 9e9}, executions_a={"f": 9e9})

    settle(run, job("a", "back"))

    assert run.read("wip") == {"a:f": 9e9}
    assert run.read("executions_a") == {"f": 9e9}
    assert (run.read("holds_w"), run.read("execution_a:e")) == (None, None)


def test_the_ledger_counts(run: Scripts) -> None:
    """Each entry; reductions are counted, too."""
    run.put(ledger={"dead:t:x": "5", "written:t": "junk"})

    settle(run, counts=["written", "t", "", 2, "dead", "t", ":x", -3])

    assert run.read("ledger") == {"written:t": "2", "dead:t:x": "2", "fell:dead:t:x": "3"}


@pytest.mark.parametrize(("size", "left"), [({"bytes": "50"}, "1154"), ({"bytes": "x"}, "x"), ({}, None)])
def test_dead_letters(run: Scripts, size: dict[str, str], left: str | None) -> None:
    """Each as a failed job without expiry; their size grows by data and overhead, once it was measured."""
    if size:
        run.put(**{SIZE: size})

    settle(run, dead=["letter-1", 2, "data", "zzzz", "bf_reason", "data", "letter-2", 1, "bf_reason", "y"])

    assert run.read("failed") == {"letter-1": -1, "letter-2": -1}
    assert run.read("job_letter-1") == {"data": "zzzz", "bf_reason": "data"}
    assert run.read("job_letter-2") == {"bf_reason": "y"}
    assert (run.read(SIZE) or {}).get("bytes") == left
