"""The log of actions on dead letters: who did them, how many entries are kept, and in which order."""

import getpass
import socket
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import audit
from birdfeed_worker.dead_letters.audit import BY_PEOPLE, BY_RETENTION, Entry, add, entries, note, rewrite
from redis import Redis


@pytest.fixture(autouse=True)
def me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "web-1.example.org")


def put(redis: Redis, keys: Keys, stream: str, entry_id: str, **fields: Any) -> None:
    told: dict[Any, Any] = {"who": "u@h", "action": "a", "details": orjson.dumps(fields.pop("details", {})), **fields}
    redis.xadd(keys.birdfeed(stream), told, id=entry_id)


@pytest.mark.parametrize("error", [None, KeyError("uid 1000"), OSError("no user")])
def test_who_did_it(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user, if there is one, and the host without its domain."""
    if error is not None:

        def nobody() -> str:
            raise error

        monkeypatch.setattr(getpass, "getuser", nobody)

    assert audit.who() == ("ann@web-1" if error is None else "?@web-1")


def test_what_is_logged(redis: Redis, keys: Keys) -> None:
    """Actions of people and of retention, each in its own stream."""
    note(redis, keys, "purge", events=3, why="x")
    add(redis, keys, BY_RETENTION, "swept", {"events": 4})

    ((_, by_people),) = redis.xrange(keys.birdfeed(BY_PEOPLE))  # type: ignore[misc]
    ((_, by_retention),) = redis.xrange(keys.birdfeed(BY_RETENTION))  # type: ignore[misc]
    assert by_people == {b"who": b"ann@web-1", b"action": b"purge", b"details": b'{"events":3,"why":"x"}'}
    assert by_retention == {b"who": b"ann@web-1", b"action": b"swept", b"details": b'{"events":4}'}


def test_how_many_entries_are_kept(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, in each stream."""
    monkeypatch.setattr(audit, "KEPT", 3)
    for number in range(5):
        note(redis, keys, "purge", number=number)
        add(redis, keys, BY_RETENTION, "swept", {"number": number})

    assert [redis.xlen(keys.birdfeed(stream)) for stream in (BY_PEOPLE, BY_RETENTION)] == [3, 3]


def test_the_log_in_order(redis: Redis, keys: Keys) -> None:
    """Newest first over both streams, by time and then by number, however many digits it has."""
    put(redis, keys, BY_PEOPLE, "1000-2", action="first")
    put(redis, keys, BY_RETENTION, "1000-10", action="second")
    put(redis, keys, BY_PEOPLE, "20000-0", action="third", details={"a": 1})
    put(redis, keys, BY_RETENTION, "100000-1", action="fourth")

    found = list(entries(redis, keys))

    assert [entry.action for entry in found] == ["fourth", "third", "second", "first"]
    assert found[1] == Entry(at=datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC), who="u@h", action="third", details={"a": 1})
    assert [entry.action for entry in entries(redis, keys, 2)] == ["fourth", "third"]
    assert next(iter(entries(redis, keys, 2))).at == datetime(1970, 1, 1, 0, 1, 40, tzinfo=UTC)


def test_an_empty_log(redis: Redis, keys: Keys) -> None:
    assert list(entries(redis, keys)) == []
    assert rewrite(redis, keys, lambda details: {}) == 0


def test_an_entry_written_by_another_tool(redis: Redis, keys: Keys) -> None:
    """Its missing fields are empty."""
    redis.xadd(keys.birdfeed(BY_PEOPLE), {"x": "y"}, id="1000-0")

    (entry,) = entries(redis, keys)

    assert (entry.who, entry.action, entry.details) == ("", "", {})


@pytest.mark.parametrize("dry_run", [False, True])
def test_details_are_rewritten(redis: Redis, keys: Keys, dry_run: bool) -> None:
    """Only entries that change, with their position and other fields; a dry run only counts them."""
    put(redis, keys, BY_PEOPLE, "1000-0", details={"user": "eve", "events": 1})
    put(redis, keys, BY_PEOPLE, "1000-1", details={"events": 2})
    put(redis, keys, BY_PEOPLE, "1000-2", action="b", details={"user": "eve"})
    redis.xadd(keys.birdfeed(BY_PEOPLE), {"who": "x"}, id="1000-3")
    put(redis, keys, BY_RETENTION, "1000-4", details={"user": "eve"})

    changed = rewrite(
        redis, keys, lambda details: {name: value for name, value in details.items() if name != "user"}, dry_run=dry_run
    )

    kept = {"user": "eve"} if dry_run else {}
    assert changed == 2
    assert [(entry.action, entry.details) for entry in entries(redis, keys)] == [
        ("a", {"user": "eve"}),
        ("", {}),
        ("b", kept),
        ("a", {"events": 2}),
        ("a", {**kept, "events": 1}),
    ]


def test_a_dry_run_needs_its_argument(redis: Redis, keys: Keys) -> None:
    """Without it the entries are rewritten."""
    put(redis, keys, BY_PEOPLE, "1000-0", details={"user": "eve"})

    rewrite(redis, keys, lambda details: {"user": "forgotten"})

    assert [entry.details for entry in entries(redis, keys)] == [{"user": "forgotten"}]
