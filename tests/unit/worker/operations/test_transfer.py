"""Dead events exported, edited, imported and purged: each with its own id, each once."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import query as letters_module
from birdfeed_worker.dead_letters.query import Choice, dead_letters_of, letters_of
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.purge import Purged, purge
from birdfeed_worker.operations.replay import replay
from birdfeed_worker.operations.transfer import Exported, Import, Imported, export
from redis import Redis

from tests.support.events import envelope, text
from tests.support.worker.dead import accept, bury, dead_events, events, ids, work


def exported(redis: Redis, keys: Keys, choice: Choice | None = None) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in export(redis, keys, choice or Choice(), Exported())]


def imported(redis: Redis, keys: Keys, lines: list[Any], **options: Any) -> tuple[Imported, list[str]]:
    said: list[str] = []
    work_in = Import(redis, keys, "replay-1", tell=lambda number, what: said.append(f"{number}: {what}"), **options)
    raw = [line if isinstance(line, bytes) else orjson.dumps(line) for line in lines]
    return work_in.run(raw), said


def test_export_edit_and_import(redis: Redis, keys: Keys) -> None:
    """Ids and times are kept; events that are still invalid, or missing in the file, stay dead letters."""
    bad = [envelope({"model": 4.1, "user": f"u{number}"}) for number in range(4)]
    bury(redis, keys, bad[:3])
    bury(redis, keys, bad[3:])
    lines = exported(redis, keys)
    assert [line["event_id"] for line in lines] == ids(bad)
    assert {line["dead"]["reason"] for line in lines} == {"invalid"}
    lines[0]["event_data"]["model"] = "openai"
    lines[0]["occurred_at"] = "1999-01-01T00:00:00Z"
    lines[3]["event_data"]["model"] = "openai"

    result, said = imported(redis, keys, [lines[0], lines[1], lines[3]])

    assert (result.events, result.refused.total(), result.not_dead) == (2, 1, 0)
    assert said == ["2: model: Input should be a valid string"]
    back = {item.event_id: item.envelope for item in work(redis, keys)}
    assert back == {one.event_id: replace(one, data={**one.data, "model": "openai"}) for one in (bad[0], bad[3])}
    assert [bad[1].event_id in line or bad[2].event_id in line for line in dead_events(redis, keys)] == [True, True]
    assert read_ledger(redis, keys).balanced


def test_importing_twice_imports_once(redis: Redis, keys: Keys) -> None:
    """The second time the events are no longer dead letters."""
    bury(redis, keys, events(3))
    lines = exported(redis, keys)

    first, _ = imported(redis, keys, lines)
    second, said = imported(redis, keys, lines)

    assert (first.events, second.events, second.not_dead) == (3, 0, 3)
    assert said[0] == "1: the event is no longer dead; it was replayed or purged"
    assert len(work(redis, keys)) == 3
    assert read_ledger(redis, keys).balanced


def test_an_event_is_found_in_another_letter_than_it_was_exported_from(redis: Redis, keys: Keys) -> None:
    """Letters may be merged and split meanwhile."""
    bury(redis, keys, events(3))
    lines = exported(redis, keys)
    for line in lines:
        line["dead"]["letter"] = "dead-elsewhere"

    assert imported(redis, keys, lines)[0].events == 3


def test_an_import_may_change_the_type(redis: Redis, keys: Keys) -> None:
    """Also of some events of a letter."""
    bury(redis, keys, [replace(one, event_type="txt") for one in events(3)], "unknown_event_type", "no type")
    lines = exported(redis, keys)
    lines[0]["event_type"] = lines[1]["event_type"] = "text_generation"
    lines[2]["event_type"] = "image_generation"

    result, _ = imported(redis, keys, lines)

    assert result.events == 3
    assert sorted(item.header.event_type for item in work(redis, keys)) == [
        "image_generation",
        *["text_generation"] * 2,
    ]
    assert list(letters_of(redis, keys)) == []
    assert read_ledger(redis, keys).balanced


def test_invalid_lines_are_reported(redis: Redis, keys: Keys) -> None:
    """With their numbers, and nothing is imported."""
    bury(redis, keys, events(1))
    (line,) = exported(redis, keys)

    result, said = imported(
        redis,
        keys,
        [
            b"{",
            b"[]",
            b"",
            {**line, "event_id": None},
            {**line, "event_data": 3},
            {**line, "event_type": "nothing"},
            line,
        ],
        dry_run=True,
    )

    assert (result.events, result.refused.total()) == (1, 5)
    assert [one.partition(":")[0] for one in said] == ["1", "2", "4", "5", "6"]
    assert "to send new events, use `birdfeed send`" in said[2]
    assert len(dead_events(redis, keys)) == 1


def test_an_export_leaves_out_unreadable_events(redis: Redis, keys: Keys) -> None:
    """And counts them."""
    bury(redis, keys, events(2, user="ann"))
    job_id = accept(redis, keys, events(2))
    redis.hset(keys.job(job_id), "data", b"not rq's")
    work(redis, keys)
    done = Exported()

    lines = list(export(redis, keys, Choice(), done))

    assert (len(lines), done.events, done.unreadable) == (2, 2, 2)
    assert [line["event_data"]["user"] for line in exported(redis, keys, Choice(user="ann"))] == ["ann", "ann"]


def test_purged_events_are_counted(redis: Redis, keys: Keys) -> None:
    """With a filter, also within a letter."""
    bury(redis, keys, [envelope(text(user=("ann", "bob")[number % 2])) for number in range(10)])
    bury(redis, keys, events(5), "rejected", "HTTP 400")

    assert purge(redis, keys, Choice(user="ann"), dry_run=True) == Purged(1, 5)
    assert purge(redis, keys, Choice(user="ann")) == Purged(1, 5)
    assert read_ledger(redis, keys).total.dead == {"invalid": 5, "rejected": 5}
    assert purge(redis, keys, Choice(reason="rejected"), limit=2) == Purged(1, 2)
    assert purge(redis, keys, Choice()) == Purged(2, 8)

    assert list(dead_letters_of(redis, keys)) == []
    total = read_ledger(redis, keys).total
    assert (total.accepted, total.purged, total.dead, total.missing) == (15, 15, {}, 0)
    assert redis.keys("rq:job:*") == []
    assert replay(redis, keys).events == 0


def test_a_purge_reads_again_what_changes_meanwhile(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a replay changes the same letter."""
    bury(redis, keys, [envelope(text(user=("ann", "bob")[number % 2])) for number in range(10)])
    look = letters_module.opened

    def look_and_lose(*args: Any) -> Any:
        found = look(*args)
        replay(redis, keys, Choice(user="bob"))
        return found

    monkeypatch.setattr("birdfeed_worker.operations.purge.opened", look_and_lose)

    assert purge(redis, keys, Choice(user="ann")) == Purged(1, 5)
    assert list(letters_of(redis, keys)) == []
    assert len(work(redis, keys)) == 5
    assert read_ledger(redis, keys).balanced


def test_a_purge_can_be_stopped(redis: Redis, keys: Keys) -> None:
    """Between two steps; the purged events are counted."""
    bury(redis, keys, events(250), each=True)
    asked = iter([False, True])

    result = purge(redis, keys, Choice(), stop=lambda: next(asked))

    assert result.events == 100
    assert read_ledger(redis, keys).total.purged == 100


def test_the_same_event_twice_in_a_file(redis: Redis, keys: Keys) -> None:
    """The first edit is used, and the second line is refused by its number: neither is lost silently."""
    bury(redis, keys, events(1))
    (line,) = export(redis, keys, Choice(), Exported())
    edits = []
    for model in ("openai", "anthropic"):
        edited = orjson.loads(line)
        edited["event_data"]["model"] = model
        edits.append(orjson.dumps(edited))
    told: list[tuple[int, str]] = []

    result = Import(redis, keys, "r1", tell=lambda number, why: told.append((number, why))).run(edits)

    assert (result.events, sum(result.refused.values()), result.not_dead) == (1, 1, 0)
    assert told == [(2, "the same event is on an earlier line, whose edit is used")]
    (back,) = work(redis, keys)
    assert back.envelope is not None
    assert back.envelope.data["model"] == "openai"
