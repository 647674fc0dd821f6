"""Purge: exactly as many events as requested, also if an answer is lost."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice, letters_of
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.purge import purge
from birdfeed_worker.queue.scripts import QueueScript
from redis import Redis

from tests.support.worker.dead import bury, events


def left(redis: Redis, keys: Keys) -> int:
    return sum(letter.events for letter in letters_of(redis, keys))


@pytest.mark.parametrize(("limit", "gone"), [(1, 1), (10, 10), (29, 29), (30, 30), (31, 30), (None, 30)])
@pytest.mark.parametrize("answer_lost", [False, True])
@pytest.mark.parametrize("each", [False, True], ids=["one letter", "a letter each"])
def test_as_many_as_requested(
    redis: Redis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    limit: int | None,
    gone: int,
    answer_lost: bool,
    each: bool,
) -> None:
    """The client repeats a call without an answer: it gets the first result, and nothing more is deleted."""
    bury(redis, keys, events(30), each=each)
    lost: list[int] = []

    run_all = QueueScript.run_all

    def loses(script: QueueScript, calls: Iterable[Sequence[Any]]) -> list[Any]:
        calls = list(calls)
        answer = run_all(script, calls)
        if answer_lost and not lost:
            lost.append(1)
            return run_all(script, calls)
        return answer

    monkeypatch.setattr(QueueScript, "run_all", loses)

    result = purge(redis, keys, Choice(), limit=limit)

    assert (result.events, left(redis, keys)) == (gone, 30 - gone)
    total = read_ledger(redis, keys).total
    assert (total.purged, sum(total.dead.values())) == (gone, 30 - gone)
    assert not list(redis.scan_iter(keys.birdfeed("purging:*"))), "nothing is remembered for longer than needed"


def test_a_dry_run_deletes_nothing(redis: Redis, keys: Keys) -> None:
    """And returns the same numbers."""
    bury(redis, keys, events(5))

    assert purge(redis, keys, Choice(), limit=3, dry_run=True).events == 3

    assert left(redis, keys) == 5


def test_only_matching_events(redis: Redis, keys: Keys) -> None:
    """By the content of events: the others in the letter stay."""
    bury(redis, keys, [*events(2, user="a"), *events(3, user="b")])

    assert purge(redis, keys, Choice(user="b")).events == 3

    assert left(redis, keys) == 2
