"""From the outcomes of events to their jobs, the ledger, the totals and the log: case by case."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_schemas.wire.accounts import LEDGER_FIELDS, OTHER_TYPES
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import MAYBE_WRITTEN_FIELD, Keys
from birdfeed_worker.dead_letters.record import DeadLetter
from birdfeed_worker.model import (
    UNREPLICATED,
    UNREPLICATED_SECONDS,
    Dead,
    Decoded,
    Deferred,
    Item,
    Outcome,
    Unreadable,
    Written,
    count_outcomes,
)
from birdfeed_worker.pipeline import settle as module
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import (
    NEWER_VERSION_WAIT,
    JobPlan,
    Settler,
    Totals,
    count,
    destination_of,
    ledger_entries,
    plan,
    tell,
)
from birdfeed_worker.queue import replicated
from birdfeed_worker.queue.codec import repack
from birdfeed_worker.queue.scripts import script
from redis import Redis, exceptions
from redis._parsers.base import BaseParser
from redis.client import Pipeline

from tests.support.worker.dead import accept, events
from tests.support.worker.delivering import reserve_all
from tests.support.worker.writing import items, job

NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = job("job-0")
DEAD = Dead("invalid", "bad")


def with_outcomes(*outcomes: Outcome | None, **header: Any) -> list[Item]:
    made = items(len(outcomes), **header)
    for item, outcome in zip(made, outcomes, strict=True):
        item.outcome = outcome
    return made


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], JobPlan(JOB)),
        ([Written(), Written()], JobPlan(JOB)),
        ([DEAD, Written(), DEAD], JobPlan(JOB, events=2)),
        ([Deferred()], JobPlan(JOB, "back")),
        ([None], JobPlan(JOB, "back")),
        ([Deferred(0.5)], JobPlan(JOB, "at", 0.5)),
        ([Deferred(5.0), Deferred(7.0), Deferred(6.0)], JobPlan(JOB, "at", 7.0)),
        ([Deferred(5.0, 3.0), None, Deferred(0.0, 4.0)], JobPlan(JOB, "at", 5.0, maybe_written_since=4.0)),
        ([Deferred(0.0, 0.0)], JobPlan(JOB, "back", maybe_written_since=0.0)),
    ],
    ids=str,
)
def test_what_happens_to_a_job(outcomes: list[Outcome | None], expected: JobPlan) -> None:
    """Done, back to the front, or waiting for the last of its events; marked since the last of their marks."""
    assert plan(JOB, with_outcomes(*outcomes)) == expected


def test_a_job_shrinks_to_its_remaining_events() -> None:
    """Its data are the events that wait, and no others."""
    made = with_outcomes(Written(), Deferred(5.0), DEAD, None)

    data, size = repack(made[1].header, [made[1].line, made[3].line])
    assert plan(JOB, made) == JobPlan(JOB, "at", 5.0, data=data, events=2, size=size)


def letter(reason: str, events: int, event_type: str = "t") -> DeadLetter:
    header = Header(batch_id="dead-1", event_type=event_type, count=events, reason=reason, detail="why")
    return DeadLetter("dead-1", header, frozenset({"b", "a"}), ("e1", "e2"), {})


def test_what_the_ledger_counts() -> None:
    """Written by type, a second acceptance taken back, and dead by type and reason."""
    made = with_outcomes(Written(), Written(already_stored=True), DEAD, Deferred(), None)
    twice = with_outcomes(*[Written(already_stored=True, duplicate_enqueue=True)] * 3)
    letters = [letter("invalid", 2), letter("invalid", 3), letter("rejected", 1), letter("invalid", 1, "u")]

    assert ledger_entries(count_outcomes([*made, *twice]), letters) == Counter(
        {
            "written:text_generation": 2,
            "accepted:text_generation": -3,
            "dead:t:invalid": 5,
            "dead:t:rejected": 1,
            "dead:u:invalid": 1,
        }
    )


def test_totals() -> None:
    """Dead events are counted by their letters, which may have more than can be read."""
    totals = Totals(lost=1)
    counted = count_outcomes(with_outcomes(Written(), Written(), DEAD, Deferred(), None, None))

    count(totals, counted, [letter("invalid", 7)])
    assert totals == Totals(written=2, dead=Counter(invalid=7), deferred=3, lost=1)
    assert totals.counted == counted
    more = count_outcomes(with_outcomes(Written()))
    totals.add(Totals(written=10, dead=Counter(invalid=1, rejected=2), deferred=20, lost=30, counted=more))

    dead = Counter(invalid=8, rejected=2)
    assert totals == Totals(written=12, dead=dead, deferred=23, lost=31)
    assert totals.counted == counted + more


def test_a_dead_letter_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, with some of the ids by which it can be found."""
    monkeypatch.setattr(module, "LOGGED_IDS", 1)
    with caplog.at_level(logging.WARNING):
        tell([letter("invalid", 2), letter("rejected", 1)])

    assert [record.getMessage() for record in caplog.records] == [
        "dead-lettered events: 2 of type t: invalid: why",
        "dead-lettered events: 1 of type t: rejected: why",
    ]
    record: Any = caplog.records[0]
    assert (record.dead_letter, record.reason, record.batch_ids, record.event_ids) == (
        "dead-1",
        "invalid",
        ["a"],
        ["e1"],
    )


def test_where_a_type_is_written() -> None:
    assert destination_of("text_generation") == "llm_events"
    assert destination_of("no_such_type") == ""


def test_a_settled_delivery(redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that are written, wait, have a newer version, failed, or can't be opened: each is in the right place."""
    ids = [accept(redis, keys, events(2)) for _ in range(5)]
    jobs = reserve_all(redis, keys)
    written, waits, newer, failed, unreadable = jobs
    settler = Settler(redis, keys, "w1")
    decoded = decode([written, waits])
    for item in decoded.items:
        item.outcome = Written() if item.job_id == written.id else Deferred(3e9, 1.5e9)
    decoded.extend(
        Decoded(
            newer=[(newer, 2)],
            failed=[(failed, 2e9)],
            unreadable=[Unreadable(unreadable, "undecodable", "no JSON"), Unreadable(job("other"), "undecodable", "x")],
        )
    )

    totals = settler.settle(jobs, decoded, NOW)

    assert totals == Totals(written=2, dead=Counter(undecodable=2), deferred=2)
    assert [redis.exists(keys.job(one)) for one in ids] == [0, 1, 1, 1, 0]
    assert {one.id: redis.zscore(keys.scheduled, one.id) for one in (waits, newer, failed)} == {
        waits.id: 3e9,
        newer.id: NOW.timestamp() + NEWER_VERSION_WAIT,
        failed.id: 2e9,
    }
    assert redis.zcard(keys.scheduled) == 3
    assert redis.hget(keys.job(waits.id), MAYBE_WRITTEN_FIELD) == b"1500000000.0"
    assert redis.zcard(keys.failed) == 1
    assert redis.hget(keys.ledger, "dead:text_generation:undecodable") == b"2"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "dead-lettered events: 2 of type text_generation: undecodable: no JSON"
    ]


@pytest.mark.parametrize("step", [1, 2, 3, 200])
def test_settling_in_steps(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Every job once, with any size of a step; deferred jobs, too."""
    monkeypatch.setattr(module, "JOBS_PER_STEP", step)
    for _ in range(3):
        accept(redis, keys, events(1))
    settler = Settler(redis, keys, "w1")
    jobs = reserve_all(redis, keys)
    settler.put_off(jobs[:2], 2e9)
    assert redis.zrange(keys.scheduled, 0, -1) == sorted(job.id.encode() for job in jobs[:2])
    redis.zadd(keys.scheduled, {job.id: 1 for job in jobs[:2]})
    assert settler.settle([jobs[2]], with_written(jobs[2:]), NOW).written == 1
    for one in jobs[:2]:
        redis.zrem(keys.scheduled, one.id)
        redis.hset(keys.job(one.id), "status", "queued")
        redis.rpush(keys.queue_list, one.id)

    jobs = reserve_all(redis, keys)
    totals = settler.settle(jobs, with_written(jobs), NOW)

    assert (totals.written, totals.lost) == (2, 0)
    assert redis.hget(keys.ledger, "written:text_generation") == b"3"


def with_written(jobs: Sequence[Any]) -> Decoded:
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Written()
    return decoded


def test_jobs_of_two_reservations_are_not_settled_together(redis: Redis, keys: Keys) -> None:
    jobs = [job("a", execution="e1"), job("b", execution="e2")]

    with pytest.raises(AssertionError, match="one reservation"):
        Settler(redis, keys, "w1").settle(jobs, Decoded(), NOW)


def test_marks_made_since_the_reservation(redis: Redis, keys: Keys) -> None:
    """Redis's value is used; if it has none, or junk, the job keeps the reserved one. It isn't read in a transaction,
    which a full Redis refuses.
    """
    jobs = [job("a", maybe_written_since=1.5e9), job("b"), job("c", maybe_written_since=1.6e9), job("d")]
    for name, mark in (("b", "1700000000.5"), ("c", "1800000000"), ("d", "junk")):
        redis.hset(keys.job(name), MAYBE_WRITTEN_FIELD, mark)
    redis.config_resetstat()

    found = Settler(redis, keys, "w1").with_marks(jobs)

    assert [one.maybe_written_since for one in found] == [1.5e9, 1_700_000_000.5, 1.8e9, None]
    assert [one.id for one in found] == ["a", "b", "c", "d"]
    assert "cmdstat_multi" not in redis.info("commandstats")


def test_too_few_replicas(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be sent, and status shows why; once there are enough, the record is removed, but only by the worker
    that made it.
    """
    accept(redis, keys, events(1))
    (held,) = reserve_all(redis, keys)
    note = keys.birdfeed(UNREPLICATED)
    settler = Settler(redis, keys, "w1", wait_replicas=1)
    answers = [0, 1, 2]
    note_it = replicated.Replicated(script(redis, keys, "mark"), 0)
    monkeypatch.setattr(settler, "_mark", lambda *args: (note_it(*args)[0], answers.pop(0)))

    assert settler.mark(held.execution, [held.id, "other"]) == {held.id, "other"}
    assert redis.get(note) == b"0 of 1"
    assert 0 < redis.ttl(note) <= UNREPLICATED_SECONDS
    assert settler.mark(held.execution, [held.id]) == frozenset()
    assert redis.get(note) is None
    redis.set(note, "of another worker")
    assert settler.mark(held.execution, [held.id, "lost"]) == {"lost"}
    assert Settler(redis, keys, "w1").mark(held.execution, [held.id]) == frozenset()
    assert redis.get(note) == b"of another worker"


@pytest.mark.parametrize("known", [True, False], ids=["known", "a new master"])
def test_how_many_replicas_have_a_mark(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """WAIT is sent with the script, over one connection, also if the script must be loaded first; and only if replicas
    are required.
    """
    monkeypatch.setattr(replicated, "WAIT_MILLISECONDS", 1)
    call = replicated.Replicated(script(redis, keys, "promote"), 1)
    alone = replicated.Replicated(call.script, 0)
    if known:
        call.script(10)
    else:
        redis.script_flush()
    redis.config_resetstat()

    assert call(10) == ([0, b""], 0)
    stats = redis.info("commandstats")
    assert stats["cmdstat_wait"]["calls"] >= 1
    assert "cmdstat_multi" not in stats
    redis.config_resetstat()
    assert alone(10) == ([0, b""], 0)
    assert "cmdstat_wait" not in redis.info("commandstats")


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        ([1, "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"], 0),
        ([1, "ERR WAIT cannot be used with replica instances."], 0),
        ([1, "NOPERM this user has no permissions to run the 'wait' command"], exceptions.NoPermissionError),
        (["READONLY You can't write against a read only replica.", "ERR WAIT"], exceptions.ReadOnlyError),
    ],
)
def test_a_master_that_was_demoted(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, failed: list[Any], expected: int | type[Exception]
) -> None:
    """It counts as no replica: it is not an error of a job."""
    answers = [BaseParser.parse_error(one) if isinstance(one, str) else one for one in failed]
    monkeypatch.setattr(Pipeline, "execute", lambda self, raise_on_error=True: answers)
    call = replicated.Replicated(script(redis, keys, "mark"), 1)

    if isinstance(expected, int):
        assert call() == (1, expected)
    else:
        with pytest.raises(expected):
            call()


@pytest.mark.parametrize(("fields", "account"), [(0, "made:up"), (LEDGER_FIELDS, OTHER_TYPES)])
def test_a_dead_letter_counts_by_type_and_reason(redis: Redis, keys: Keys, fields: int, account: str) -> None:
    """Also if the type's name has a colon; unknown types share an account once there are many."""
    if fields:
        redis.hset(keys.ledger, mapping={f"x{number}": 1 for number in range(fields)})
    accept(redis, keys, events(1))
    (held,) = reserve_all(redis, keys)
    odd = replace(held, event_type="made:up")

    Settler(redis, keys, "w1").settle([odd], Decoded(unreadable=[Unreadable(odd, "undecodable", "x")]), NOW)

    assert redis.hget(keys.ledger, f"dead:{account}:undecodable") == b"1"
