"""Pages of the newest letters: how many are read, and where exactly the next page begins."""

from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import newest as module
from birdfeed_worker.dead_letters.newest import newest
from birdfeed_worker.dead_letters.query import Choice
from birdfeed_worker.dead_letters.record import letter_fields
from redis import Redis

#: From the newest: ten letters of two events each; every third has one event of Ann and one of Bob.
NEWEST_FIRST = "jihgfedcba"
ANNS = {"i", "f", "c"}


@pytest.fixture(autouse=True)
def ten(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten letters of ten bytes; three are read, and two opened, at a time."""
    monkeypatch.setattr(module, "STEP", 3)
    monkeypatch.setattr(module, "OPENED", 2)
    for name in NEWEST_FIRST:
        header = Header(batch_id=name, event_type="text_generation", count=2, reason="invalid" if name < "f" else "new")
        user = b"ann" if name in ANNS else b"bob"
        lines = [b'{"data":{"user":"%s"}}' % user, b'{"data":{"user":"bob"}}']
        redis.hset(keys.job(name), mapping=dict(letter_fields(header, lines, keys.queue)))  # type: ignore[arg-type]
        redis.hset(keys.job(name), "bf_bytes", 10)
        redis.zadd(keys.failed, {name: -1})


def page(redis: Redis, keys: Keys, choice: Choice | None = None, **limits: Any) -> tuple[str, list[int], int, str]:
    """The letters of a page, the number of matching events, the number of letters read, and the continuation."""
    found = newest(redis, keys, choice or Choice(), **limits)
    names = "".join(letter.id for letter, _ in found.letters)
    return names, [events for _, events in found.letters], found.looked_at, found.after


@pytest.mark.parametrize(
    ("choice", "limits", "expected"),
    [
        ({}, {}, ("jihgfedcba", [2] * 10, 10, "")),
        ({}, {"most": 1}, ("j", [2], 1, "j")),
        ({}, {"most": 4}, ("jihg", [2] * 4, 4, "g")),
        ({}, {"most": 4, "after": "g"}, ("fedc", [2] * 4, 4, "c")),
        ({}, {"most": 4, "after": "c"}, ("ba", [2] * 2, 2, "")),
        ({}, {"look_at": 5}, ("jihgf", [2] * 5, 5, "f")),
        ({}, {"look_at": 6}, ("jihgfe", [2] * 6, 6, "e")),
        ({}, {"look_at": 10}, ("jihgfedcba", [2] * 10, 10, "a")),
        ({}, {"look_at": 0}, ("", [], 0, "")),
        ({"reason": "invalid"}, {"most": 2}, ("ed", [2] * 2, 7, "d")),
        ({"reason": "invalid"}, {"look_at": 4}, ("", [], 4, "g")),
        ({"user": "ann"}, {}, ("ifc", [1] * 3, 10, "")),
        ({"user": "ann"}, {"most": 2}, ("if", [1] * 2, 5, "f")),
        ({"user": "bob"}, {"most": 2}, ("ji", [2, 1], 2, "i")),
        ({"user": "eve"}, {"look_at": 4}, ("", [], 4, "g")),
    ],
    ids=str,
)
def test_a_page(
    redis: Redis, keys: Keys, choice: dict[str, Any], limits: dict[str, Any], expected: tuple[str, list[int], int, str]
) -> None:
    """The next page reads no letter again, and none is left out."""
    assert page(redis, keys, Choice(**choice), **limits) == expected


@pytest.mark.parametrize(
    ("choice", "size", "expected"),
    [
        ({"user": "eve"}, 20, ("", [], 2, "i")),
        ({"user": "eve"}, 21, ("", [], 3, "h")),
        ({"user": "eve"}, 30, ("", [], 3, "h")),
        ({"user": "eve"}, 41, ("", [], 5, "f")),
        ({"user": "ann"}, 20, ("i", [1], 2, "i")),
        ({"reason": "invalid"}, 1, ("edcba", [2] * 5, 10, "")),
    ],
    ids=str,
)
def test_how_much_is_opened_for_a_page(
    redis: Redis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    choice: dict[str, Any],
    size: int,
    expected: tuple[str, list[int], int, str],
) -> None:
    """Two letters at a time, up to the limit of bytes; letters that aren't opened don't count."""
    monkeypatch.setattr(module, "OPENED_BYTES", size)

    assert page(redis, keys, Choice(**choice)) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"most": 4}, ("ejih", 4, "#4")),
        ({"most": 4, "after": "#4"}, ("gfdc", 4, "#8")),
        ({"most": 4, "after": "#8"}, ("ba", 2, "")),
        ({"look_at": 5}, ("ejihg", 5, "#5")),
        ({"after": "#999999999"}, ("", 0, "")),
        ({"after": "#1000000000"}, ("ejihgfdcba", 10, "")),
        ({"after": "#-1"}, ("ejihgfdcba", 10, "")),
        ({"after": "7"}, ("cba", 3, "")),
        ({"after": "f"}, ("ejihgfdcba", 10, "")),
    ],
    ids=str,
)
def test_a_page_where_rq_failed_a_job(
    redis: Redis, keys: Keys, limits: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    """It is first, by its time, and continuations are numbers; an invalid one is the beginning."""
    redis.zadd(keys.failed, {"e": 9e9})

    names, _, looked_at, after = page(redis, keys, **limits)

    assert (names, looked_at, after) == expected


def test_a_number_is_not_a_continuation_without_a_job_that_rq_failed(redis: Redis, keys: Keys) -> None:
    """It is from an earlier state: the list starts again."""
    assert page(redis, keys, most=1, after="#4")[0] == "j"


def test_a_letter_that_cant_be_opened_matches_no_user(redis: Redis, keys: Keys) -> None:
    """It has events, but their users are unknown."""
    redis.hset(keys.job("j"), "data", "junk")

    assert page(redis, keys, Choice(user="bob"), most=1) == ("i", [1], 2, "i")
    assert page(redis, keys, Choice(), most=1) == ("j", [2], 1, "j")


def test_a_page_has_fifty_letters(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default."""
    monkeypatch.setattr(module, "STEP", 500)
    fields = redis.hgetall(keys.job("a"))
    for number in range(60):
        redis.hset(keys.job(f"k{number}"), mapping=fields)  # type: ignore[arg-type]
        redis.zadd(keys.failed, {f"k{number}": -1})

    assert len(page(redis, keys)[0]) >= 50
    assert page(redis, keys)[2] == 50
