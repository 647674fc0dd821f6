"""ledger.lua, depth.lua, and common parts of scripts: jobs in flight, and keys of the wrong kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from birdfeed_worker.queue import scripts
from redis.exceptions import ResponseError

from tests.support.worker.lua import ON_A_REAL_SERVER, Scripts


def flat(pairs: list[str]) -> dict[str, str]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def look(run: Scripts, most: int = 100) -> tuple[Any, ...]:
    """The counts, what is in flight, anomalies, what rq queued again, and whether there were too many jobs."""
    *tables, more = run("ledger", most)
    return *(flat([str(one) for one in table]) for table in tables), more


@pytest.mark.parametrize("where", ["queue", "wip", "scheduled"])
@pytest.mark.parametrize(
    ("job", "found"),
    [
        ({"status": "queued", "bf_events": "3", "bf_type": "t"}, ({"t": "3"}, {}, {})),
        ({"status": "started", "bf_events": "3", "bf_type": "t"}, ({"t": "3"}, {}, {})),
        ({"status": "scheduled", "bf_events": "3"}, ({"unknown": "3"}, {}, {})),
        ({"status": "queued", "bf_events": "x", "bf_type": "t"}, ({"t": "1"}, {}, {})),
        ({"status": "queued", "bf_events": "3", "bf_reason": ""}, ({"unknown": "3"}, {}, {})),
        ({"status": "queued", "bf_type": "t"}, ({}, {"foreign": "1"}, {})),
        ({"status": "finished", "bf_events": "3"}, ({}, {"stray": "1"}, {})),
        ({"bf_events": "3"}, ({}, {"orphaned": "1"}, {})),
        (None, ({}, {"orphaned": "1"}, {})),
        (
            {"status": "queued", "bf_events": "3", "bf_type": "t", "bf_reason": "x"},
            ({}, {"requeued": "1"}, {"t:x": "3"}),
        ),
        ({"status": "queued", "bf_reason": "x"}, ({}, {"requeued": "1"}, {"unknown:x": "1"})),
    ],
    ids=str,
)
def test_a_jobs_count_by_its_state(
    run: Scripts, where: str, job: Mapping[str, str] | None, found: tuple[dict[str, str], ...]
) -> None:
    """Wherever it is."""
    run.put(**{where: {"queue": ["a"], "wip": {"a:e": 5}, "scheduled": {"a": 5}}[where]}, ledger={"written:t": "7"})
    if job is not None:
        run.put(job_a=dict(job))
    before = run.all()

    assert look(run) == ({"written:t": "7"}, *found, "")
    assert run.all() == before


def test_jobs_are_summed_and_each_counts_once(run: Scripts) -> None:
    """However often it is listed."""
    run.put(queue=["a", "b", "a", "c", "d"], wip={"a:e": 5, "b:e": 5}, scheduled={"b": 5})
    for name in "abcd":
        back = {"bf_reason": "x"} if name in "cd" else {}
        run.put(**{f"job_{name}": {"status": "queued", "bf_events": "2", "bf_type": "t", **back}})

    assert look(run) == ({}, {"t": "4"}, {"requeued": "2"}, {"t:x": "4"}, "")


@pytest.mark.parametrize(("most", "more"), [(3, "1"), (4, "")])
def test_too_many_jobs_to_read(run: Scripts, most: int, more: str) -> None:
    """Only their number by state."""
    run.put(queue=["a", "b"], wip={"c:e": 5}, scheduled={"d": 5}, ledger={"written:t": "7"})

    found = look(run, most)

    assert found[-1] == more
    if more:
        assert found == ({"written:t": "7"}, {"queued": "2", "started": "1", "scheduled": "1"}, {}, {}, "1")


def test_the_depth(run: Scripts) -> None:
    run.put(queue=["a", "b", "c"], wip={"c:e": 5}, scheduled={"d": 5, "e": 5})

    assert run("depth") == [3, 1, 2]


#: A call of each script that writes, with an effect.
CALLS: dict[str, tuple[Any, ...]] = {
    "admit": ("d", 10, 100, 5, "me", 30),
    "adopt": ("x", "now"),
    "beat": ("w", 90, "now", "busy", 0, 0, "hostname", "h"),
    "circuit_breaker": ("t", 0.5, 10, 40, 5),
    "commands": (3, "SET", "a", "b"),
    "forget": ("a", "", 1, "", 0, "", 60, "memory"),
    "mark": ("w", "e"),
    "merge": ("new", 0, "data", "x"),
    "move": ("a", "", "purge", 1, "", 0, "", "memory", ""),
    "promote": (10,),
    "recover": ("", 0, 10),
    "renew": ("w", 20, "e"),
    "report": ("d", "available", "[]", "", "", "me"),
    "reserve": ("w", 20, 9, 99, 999, "e", 99),
    "rewrite_log": ("log", 0),
    "settle": ("w", "e", 600, 0, 0, 0),
}
#: The arguments of the scripts that only read.
READING: dict[str, tuple[Any, ...]] = {"dead_sums": ("-", 10), "ledger": (10,)}
KINDS = {"queue": "list", "wip": "zset", "scheduled": "zset", "failed": "zset", "ledger": "hash", "queues": "set"}


@pytest.mark.parametrize("shared", KINDS)
def test_a_shared_key_of_another_kind(run: Scripts, shared: str) -> None:
    """No script writes anything, and the error names the key."""
    run.put(**{shared: "text"})
    said = f"WRONGKIND {run.key(shared)} holds a string, not a {KINDS[shared]}"

    for name, args in CALLS.items():
        with pytest.raises(ResponseError, match=said):
            run(name, *args)

    assert run.all() == {run.key(shared): "text"}


@ON_A_REAL_SERVER
def test_every_script_runs_on_a_redis_that_is_full(run: Scripts) -> None:
    """Also those that write: otherwise nothing could be removed from it."""
    run.put(ledger={"written:t": "7"})
    run.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError):
            run.redis.set("x", "y")
        for name, args in CALLS.items():
            run(name, *args)
        for name in scripts.READ_ONLY:
            run(name, *READING.get(name, ()))
    finally:
        run.redis.config_set("maxmemory", 0)

    assert run.redis.get("a") == b"b"


def test_every_script_is_called_here() -> None:
    """New ones, too."""
    folder = Path(scripts.__file__).parent / "lua"

    assert {path.stem for path in folder.glob("*.lua")} == {*CALLS, *scripts.READ_ONLY, "common", "writes"}
