"""Newest first, a page at a time: no letter twice or missing, and never more is read than the limits allow."""

from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters import newest as module
from birdfeed_worker.dead_letters.newest import newest
from birdfeed_worker.dead_letters.query import Choice, letters_of
from redis import Redis

from tests.support.worker.dead import bury, events


def all_pages(redis: Redis, keys: Keys, choice: Choice, **limits: int) -> tuple[list[str], int]:
    """Ids on all pages, and how many pages there were."""
    after, found, pages = "", list[str](), 0
    while pages == 0 or after:
        page = newest(redis, keys, choice, after=after, **limits)
        found += [letter.id for letter, _ in page.letters]
        after, pages = page.after, pages + 1
    return found, pages


@pytest.mark.parametrize("limits", [{"most": 2}, {"most": 100, "look_at": 3}, {"most": 1, "look_at": 1}, {"most": 100}])
@pytest.mark.parametrize("by_rq", [False, True], ids=["ours", "some failed by rq"])
def test_every_letter_once_newest_first(redis: Redis, keys: Keys, limits: dict[str, int], by_rq: bool) -> None:
    """With any limits; also with a job that rq failed by itself, which is sorted by its time."""
    letters = [letter.id for letter in bury(redis, keys, events(7), each=True)]
    if by_rq:
        redis.zadd(keys.failed, {letters[2]: 5_000_000_000})

    found, pages = all_pages(redis, keys, Choice(), **limits)

    expected = letters[::-1]
    assert found == ([letters[2], *(one for one in expected if one != letters[2])] if by_rq else expected)
    assert pages >= 7 // min(limits.get("most", 100), limits.get("look_at", 100))


def test_new_letters_shift_no_page(redis: Redis, keys: Keys) -> None:
    """A letter that is added between two pages is not shown and hides no older one; a deleted one doesn't matter."""
    old = [letter.id for letter in bury(redis, keys, events(4), each=True)]
    first = newest(redis, keys, Choice(), most=2)
    bury(redis, keys, events(3), each=True)
    redis.zrem(keys.failed, first.after)

    second = newest(redis, keys, Choice(), after=first.after, most=2)

    assert [letter.id for letter, _ in second.letters] == old[1::-1]


def test_filters_by_event_count_the_matches(redis: Redis, keys: Keys) -> None:
    """Model, user, and text in the data or in why they failed, ignoring case."""
    bury(redis, keys, [*events(2, user="ann"), *events(3, user="bob")])
    [*_, letter] = bury(redis, keys, events(2, user="eve"), "quarantined", "Cost: Not a number")

    def found(**choice: Any) -> list[int]:
        return [events for _, events in newest(redis, keys, Choice(**choice)).letters]

    assert found(user="ann") == [2]
    assert found(text="BOB") == [3]
    assert found(text="not a NUMBER") == [2]
    assert found(text="r1", user="bob") == [1]
    assert found(text="nowhere") == []
    assert found(ids=(letter.id,)) == [2]


def test_one_page_reads_a_bounded_number(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no letter matches: an empty page with its continuation; the bytes of opened letters count, too."""
    bury(redis, keys, events(12), each=True)

    page = newest(redis, keys, Choice(reason="too_large"), look_at=5)
    monkeypatch.setattr(module, "OPENED", 2)
    monkeypatch.setattr(module, "OPENED_BYTES", 1)
    opened = newest(redis, keys, Choice(text="nowhere"))

    assert (list(page.letters), page.looked_at, bool(page.after)) == ([], 5, True)
    assert (list(opened.letters), opened.looked_at, bool(opened.after)) == ([], 2, True)


def test_a_selection_by_id_reads_only_those(redis: Redis, keys: Keys) -> None:
    """Ids that are not dead letters are skipped, such as that of a waiting job."""
    letters = [letter.id for letter in bury(redis, keys, events(3), each=True, now=datetime.now(UTC))]

    found = letters_of(redis, keys, Choice(ids=(letters[2], "dead-nothing", letters[0])))

    assert sorted(letter.id for letter in found) == [letters[0], letters[2]]


@pytest.mark.parametrize("after", ["#9", "#x", "#-1", "zzz", "\x00", "dead-", "#" + "9" * 40])
def test_any_continuation_is_harmless(redis: Redis, keys: Keys, after: str) -> None:
    """Because it comes from a URL."""
    bury(redis, keys, events(2), each=True)

    assert newest(redis, keys, Choice(), after=after).looked_at in (0, 2)
