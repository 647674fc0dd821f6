"""Several requests of one delivery at a time."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import items, job, limiter_of, outcomes, sender_of


def test_requests_go_side_by_side(redis: Redis, keys: Keys, store: FakeStore) -> None:
    """As many as the limit says, and no more: each waits for the others to have come in."""
    together = threading.Barrier(3)
    limiter = limiter_of(redis, keys)
    sender = sender_of(store, limiter, Clock())
    writer = Writer(store, sender, Clock(), WriteLimits(rows=2, bytes=10**6, at_once=3))
    made = items(12)

    def meet(rows: list[dict[str, Any]]) -> None:
        together.wait(30)

    store.rules.append(meet)
    with writer.delivery({name: job(name) for name in ("job-0", "job-1", "job-2")}) as writing:
        for item in made:
            writing.add("llm_events", [item])

    assert outcomes(made) == ["Written"] * 12
    assert sorted(map(len, store.requests)) == [2] * 6


def test_nothing_is_under_way_after_a_failure(
    store: FakeStore, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis fails under the first of three requests: the second comes to its end before the jobs are given back, and
    the third, which waits for a thread, is never sent.
    """
    release, ended = threading.Event(), threading.Event()

    def mark(execution: str, ids: Sequence[str]) -> frozenset[str]:
        if "job-0" in ids:
            raise RedisConnectionError("gone")
        return frozenset()

    def slow(rows: list[dict[str, Any]]) -> None:
        assert release.wait(30)
        ended.set()

    def release_and_wait(futures: Sequence[Future[None]]) -> None:
        """The store answers only when the failure has been seen, and the end is waited for."""
        release.set()
        wait(futures)

    store.rules.append(slow)
    monkeypatch.setattr("birdfeed_worker.pipeline.write.wait", release_and_wait)
    limiter = limiter_of(redis, keys)
    sender = sender_of(store, limiter, Clock(), mark)
    writer = Writer(store, sender, Clock(), WriteLimits(rows=1, bytes=10**6, at_once=1))
    made = items(3)

    jobs = {name: job(name) for name in ("job-0", "job-1", "job-2")}
    with pytest.raises(RedisConnectionError), writer.delivery(jobs) as writing:
        writing.add("llm_events", made)

    assert ended.is_set()
    assert outcomes(made) == ["NoneType", "Written", "NoneType"]
    assert len(store.requests) == 1
