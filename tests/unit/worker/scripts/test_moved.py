"""move.lua and forget.lua: events out of a dead letter or a job."""

from hashlib import sha1
from typing import Any

import pytest

from tests.support.worker.lua import ON_A_REAL_SERVER, Scripts, lease

SEEN = sha1(b"data").hexdigest()
#: The bytes of a letter besides its data.
OVERHEAD = 1_100
LETTER = {"data": "data", "bf_events": "3", "bf_type": "t", "bf_reason": "x"}
FELL = {"dead:t:x": "-{0}", "fell:dead:t:x": "{0}"}


def letter(run: Scripts, **fields: str) -> None:
    run.put(failed={"a": -1, "z": -1}, job_a={**LETTER, **fields}, results_a="r", **{"dead-size": {"bytes": "5000"}})


def purge(run: Scripts, *, seen: str = "", taken: int = 3, left: str = "") -> list[int]:
    answer: list[int] = run("move", "a", seen, "purge", taken, left, len(left), "less", "memory", "")
    return answer


def back(run: Scripts, *, seen: str = "", taken: int = 3, left: str = "", kind: str = "t") -> list[int]:
    fields = ("data", "new", "status", "queued")
    answer: list[int] = run("move", "a", seen, "back", taken, left, len(left), "less", "new", kind, *fields)
    return answer


def bytes_left(run: Scripts) -> int:
    return int(run.read("dead-size")["bytes"])


def test_a_whole_letter_is_purged(run: Scripts) -> None:
    """Its size is remembered for a call whose answer was lost, and not subtracted twice."""
    letter(run)

    assert purge(run) == [1, 3]
    after = run.all()
    assert purge(run) == [1, 3]

    assert run.all() == after
    assert after == {
        run.key("failed"): {"z": -1},
        run.key("dead-size"): {"bytes": str(5_000 - 4 - OVERHEAD)},
        run.key("ledger"): {"dead:t:x": "-3", "fell:dead:t:x": "3", "purged:t": "3", "purged_as:t:x": "3"},
        "memory": {"a": "3"},
    }
    assert 500 < run.redis.ttl("memory") <= 600


@ON_A_REAL_SERVER
@pytest.mark.parametrize("action", ["purge", "back"])
def test_part_of_a_letter(run: Scripts, action: str) -> None:
    """The rest stays dead, with its size."""
    letter(run)
    move = purge if action == "purge" else back

    assert move(run, seen=SEEN, taken=1, left="da") == [1, 1]

    rest = {"data": "da", "bf_events": "2", "bf_bytes": "2", "description": "less"}
    assert run.read("job_a") == {**LETTER, **rest}
    assert run.read("failed") == {"a": -1, "z": -1}
    assert bytes_left(run) == 4_998
    counts = {"purged:t": "1", "purged_as:t:x": "1"} if action == "purge" else {}
    assert run.read("ledger") == {"dead:t:x": "-1", "fell:dead:t:x": "1", **counts}


def test_a_letter_is_replayed(run: Scripts) -> None:
    """As a job at the queue's end; a repeated call does nothing, and returns the same."""
    letter(run)
    run.put(queue=["q"])

    assert back(run) == [1, 3]
    after = run.all()
    assert back(run) == [1, 3]

    assert run.all() == after
    assert after == {
        run.key("failed"): {"z": -1},
        run.key("dead-size"): {"bytes": str(5_000 - 4 - OVERHEAD)},
        run.key("ledger"): {"dead:t:x": "-3", "fell:dead:t:x": "3"},
        run.key("queue"): ["q", "new"],
        run.key("queues"): {run.key("queue")},
        run.key("job_new"): {"data": "new", "status": "queued"},
    }


def test_a_replayed_letter_that_is_settled(run: Scripts) -> None:
    """Its job is deleted, and remembered: it isn't replayed a second time."""
    letter(run)
    run.put(done_new="0")
    before = run.all()

    assert back(run) == [1, 3]
    assert run.all() == before


def test_edited_into_another_type(run: Scripts) -> None:
    """It is counted for that type from now on."""
    letter(run)

    back(run, kind="u")

    assert run.read("ledger") == {
        "dead:t:x": "-3", "fell:dead:t:x": "3", "accepted:t": "-3", "fell:accepted:t": "3", "accepted:u": "3"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "ledger"),
    [
        ({"bf_reason": ""}, {"purged:t": "3", "purged_as:t:": "3"}),
        ({"bf_reason": None}, {"purged:t": "3", "purged_as:t:": "3"}),
        (
            {"bf_type": None},
            {"dead:unknown:x": "-3", "fell:dead:unknown:x": "3", "purged:unknown": "3", "purged_as:unknown:x": "3"},
        ),
        # Not made by a birdfeed producer, so it wasn't counted.
        (
            {"bf_events": None},
            {"dead:t:x": "-3", "fell:dead:t:x": "3", "accepted:t": "3", "purged:t": "3", "purged_as:t:x": "3"},
        ),
        # The count in the letter is used, not the caller's.
        (
            {"bf_events": "2"},
            {"dead:t:x": "-2", "fell:dead:t:x": "2", "purged:t": "2", "purged_as:t:x": "2"},
        ),
    ],
    ids=str,
)
def test_what_is_counted(run: Scripts, fields: dict[str, str | None], ledger: dict[str, str]) -> None:
    letter(run)
    for name, value in fields.items():
        run.redis.hset(run.key("job_a"), name, value or "")
        if value is None:
            run.redis.hdel(run.key("job_a"), name)

    purge(run)

    assert run.read("ledger") == ledger


@pytest.mark.parametrize("action", ["purge", "back"])
def test_a_deleted_letter(run: Scripts, action: str) -> None:
    """Nothing is done; an entry without a letter is removed."""
    move = purge if action == "purge" else back
    run.put(job_a=LETTER)
    before = run.all()
    assert move(run) == [0]
    assert run.all() == before

    run.redis.delete(run.key("job_a"))
    run.put(failed={"a": -1, "z": -1}, **{"dead-size": {"bytes": "5"}})
    assert move(run) == [0]
    assert run.all() == {run.key("failed"): {"z": -1}, run.key("dead-size"): {"bytes": "5"}}


@ON_A_REAL_SERVER
def test_a_letter_that_changed_since_it_was_read(run: Scripts) -> None:
    letter(run, data="other")
    before = run.all()

    assert purge(run, seen=SEEN) == back(run, seen=SEEN) == [2]
    assert run.all() == before


# ---- forget.lua


def forget(run: Scripts, *, taken: int = 3, left: str = "") -> list[int]:
    answer: list[int] = run("forget", "a", SEEN, taken, left, len(left), "less", 60, "memory")
    return answer


@ON_A_REAL_SERVER
@pytest.mark.parametrize(
    ("where", "fields", "ledger"),
    [
        ("queue", {"bf_reason": None}, {"dropped:t:forgotten": "3"}),
        ("scheduled", {"bf_reason": ""}, {"dropped:t:forgotten": "3"}),
        ("failed", {}, {"dead:t:x": "-3", "fell:dead:t:x": "3", "dropped:t:forgotten": "3"}),
        ("queue", {"bf_reason": None, "bf_type": None}, {"dropped:unknown:forgotten": "3"}),
        ("queue", {"bf_reason": None, "bf_events": None}, {"accepted:t": "3", "dropped:t:forgotten": "3"}),
        ("queue", {"bf_reason": None, "bf_events": "2"}, {"dropped:t:forgotten": "2"}),
    ],
    ids=str,
)
def test_a_job_is_erased(run: Scripts, where: str, fields: dict[str, str | None], ledger: dict[str, str]) -> None:
    """Wherever it waits; its id and the result are remembered for a call whose answer was lost."""
    given: dict[str, Any] = {**LETTER, **fields}
    run.put(
        job_a={name: value for name, value in given.items() if value is not None},
        results_a="r",
        queue=["a", "z"] if where == "queue" else ["z"],
        scheduled={"a": 5, "z": 5} if where == "scheduled" else {"z": 5},
        failed={"a": 5, "z": 5} if where == "failed" else {"z": 5},
        **{"dead-size": {"bytes": "5000"}},
    )

    taken = 2 if fields.get("bf_events") else 3
    assert forget(run) == [1, taken]
    after = run.all()
    assert forget(run) == [1, taken]

    assert run.all() == after
    assert after == {
        run.key("queue"): ["z"],
        run.key("scheduled"): {"z": 5},
        run.key("failed"): {"z": 5},
        run.key("done_a"): "0",
        run.key("ledger"): ledger,
        run.key("dead-size"): {"bytes": str(5_000 - (4 + OVERHEAD if where == "failed" else 0))},
        "memory": {"a": str(taken)},
    }
    assert 50 < run.redis.ttl(run.key("done_a")) <= 60
    assert 500 < run.redis.ttl("memory") <= 600


@ON_A_REAL_SERVER
@pytest.mark.parametrize("reason", ["x", ""])
def test_part_of_a_job_is_erased(run: Scripts, reason: str) -> None:
    """The rest stays where it is."""
    run.put(failed={"a": -1}, job_a={**LETTER, "bf_reason": reason}, **{"dead-size": {"bytes": "5000"}})

    assert forget(run, taken=1, left="da") == [1, 1]

    rest = {"data": "da", "bf_events": "2", "bf_bytes": "2", "description": "less"}
    assert run.read("job_a") == {**LETTER, "bf_reason": reason, **rest}
    assert run.read("failed") == {"a": -1}
    assert bytes_left(run) == (4_998 if reason else 5_000)
    fell = {"dead:t:x": "-1", "fell:dead:t:x": "1"} if reason else {}
    assert run.read("ledger") == {**fell, "dropped:t:forgotten": "1"}


@ON_A_REAL_SERVER
@pytest.mark.parametrize(("what", "answer"), [("gone", 0), ("changed", 2), ("started", 3), ("held", 3)])
def test_a_job_that_cannot_be_erased(run: Scripts, what: str, answer: int) -> None:
    """Nothing is done, and the reason is returned; first that a worker has it."""
    if what != "gone":
        run.put(job_a={**LETTER, "data": "other"})
    if what == "started":
        run.redis.hset(run.key("job_a"), "status", "started")
    elif what == "held":
        lease(run, a_e=50)
    before = run.all()

    assert forget(run) == [answer]
    assert run.all() == before
