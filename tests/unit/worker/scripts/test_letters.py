"""adopt.lua, merge.lua and rewrite_log.lua: dead letters and the log of actions."""

from hashlib import sha1
from typing import Any

import pytest

from tests.support.worker.lua import ON_A_REAL_SERVER, Scripts

LEDGER = "ledger"


def adopt(run: Scripts) -> int:
    return int(run("adopt", "x", "2026-01-01T00:00:00Z"))


def test_what_is_not_a_dead_letter_is_not_changed(run: Scripts) -> None:
    run.put(job_x={"status": "queued", "bf_events": "3"})
    before = run.all()

    assert adopt(run) == 0
    assert run.all() == before


@pytest.mark.parametrize("job", [{}, {"job_x": "text"}])
def test_an_entry_without_a_job(run: Scripts, job: dict[str, Any]) -> None:
    """Only the entry is removed."""
    run.put(failed={"x": 5, "y": 5}, **job)

    assert adopt(run) == -1

    assert run.read("failed") == {"y": 5}
    assert run.read("job_x") == job.get("job_x")


@pytest.mark.parametrize(
    ("fields", "events", "ledger"),
    [
        ({"bf_events": "3", "bf_type": "t"}, 3, {"dead:t:failed": "3"}),
        ({"bf_events": "3", "bf_type": "t", "bf_reason": ""}, 3, {"dead:t:failed": "3"}),
        ({"bf_events": "3"}, 3, {"dead:unknown:failed": "3"}),
        # Counted as accepted when it was enqueued, with a count that is junk now.
        ({"bf_events": "x", "bf_type": "t"}, 1, {"dead:t:failed": "1"}),
        ({"bf_events": "1000001", "bf_type": "t"}, 1, {"dead:t:failed": "1"}),
        # Not made by a birdfeed producer.
        ({"data": "z"}, 1, {"accepted:unknown": "1", "dead:unknown:failed": "1"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("ended", [None, "", "2025"])
def test_a_job_that_rq_failed(
    run: Scripts, fields: dict[str, str], events: int, ledger: dict[str, str], ended: str | None
) -> None:
    """It is counted as dead and doesn't expire; without a time of its end that is now."""
    given = fields if ended is None else {**fields, "ended_at": ended}
    run.put(failed={"x": 5}, job_x=given)
    run.redis.expire(run.key("job_x"), 60)

    assert adopt(run) == events

    assert run.read("failed") == {"x": -1}
    assert run.redis.ttl(run.key("job_x")) == -1
    made = {} if fields.get("bf_events") == "3" else {"bf_events": "1", "bf_type": fields.get("bf_type", "unknown")}
    end = {"ended_at": ended or "2026-01-01T00:00:00Z", "bf_reason": "failed"}
    assert run.read("job_x") == {**given, **made, **end}
    assert run.read(LEDGER) == ledger


def test_our_letters_do_not_expire(run: Scripts) -> None:
    """And are not counted again."""
    run.put(failed={"x": 5}, job_x={"bf_events": "3", "bf_reason": "invalid"})
    run.redis.expire(run.key("job_x"), 60)

    assert adopt(run) == 0

    assert run.all() == {
        run.key("failed"): {"x": -1}, run.key("job_x"): {"bf_events": "3", "bf_reason": "invalid"}
    }  # fmt: skip
    assert run.redis.ttl(run.key("job_x")) == -1


def merge(run: Scripts, *letters: str, fields: tuple[str, ...] = ("data", "new", "bf_events", "2")) -> int:
    seen = [part for name in letters for part in (name, sha1(f"data of {name}".encode()).hexdigest())]
    return int(run("merge", "new", len(letters), *seen, *fields))


@ON_A_REAL_SERVER
def test_letters_are_merged(run: Scripts) -> None:
    """The old ones are deleted."""
    run.put(failed={"a": -1, "b": -1, "c": -1}, results_a="r", results_b="r")
    for name in "abc":
        run.put(**{f"job_{name}": {"data": f"data of {name}"}})

    assert merge(run, "a", "b") == 1

    assert run.all() == {
        run.key("failed"): {"c": -1, "new": -1},
        run.key("job_c"): {"data": "data of c"},
        run.key("job_new"): {"data": "new", "bf_events": "2"},
    }


@ON_A_REAL_SERVER
@pytest.mark.parametrize("what", ["no letter", "no job", "no data", "other data"])
@pytest.mark.parametrize("which", ["a", "b"])
def test_letters_that_changed_since_they_were_read(run: Scripts, what: str, which: str) -> None:
    """Nothing is done, whichever of them changed."""
    run.put(failed={"a": -1, "b": -1}, job_a={"data": "data of a"}, job_b={"data": "data of b"})
    key = run.key(f"job_{which}")
    if what == "no letter":
        run.redis.zrem(run.key("failed"), which)
    elif what == "no job":
        run.redis.delete(key)
    elif what == "no data":
        run.redis.hset(key, "x", "y")
        run.redis.hdel(key, "data")
    else:
        run.redis.hset(key, "data", "other")
    before = run.all()

    assert merge(run, "a", "b") == 0
    assert run.all() == before


def test_entries_of_the_log_get_other_details(run: Scripts) -> None:
    """Only the given ones; order, ids and other fields stay."""
    key = run.key("log")
    for number in "123":
        run.redis.xadd(key, {"details": number, "who": "me"}, id=f"{number}-0")

    assert run("rewrite_log", key, 2, "2-0", "two", "9-0", "nine") == 1

    assert run.read("log") == [
        ("1-0", {"details": "1", "who": "me"}),
        ("2-0", {"details": "two", "who": "me"}),
        ("3-0", {"details": "3", "who": "me"}),
    ]


def test_an_entry_of_the_log_whose_value_says_details(run: Scripts) -> None:
    """Only the field is changed."""
    key = run.key("log")
    run.redis.xadd(key, {"who": "details", "details": "1"}, id="1-0")

    assert run("rewrite_log", key, 1, "1-0", "one") == 1

    assert run.read("log") == [("1-0", {"who": "details", "details": "one"})]
