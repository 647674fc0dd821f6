"""Several concurrent requests of one delivery."""

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


def test_requests_are_concurrent(redis: Redis, keys: Keys, store: FakeStore) -> None:
    """As many as the limit, and no more: each waits until the others have arrived."""
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


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_request_is_in_flight_after_a_failure(
    store: FakeStore, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Redis fails during the first of some requests: one in flight is finished before the jobs are given back, and
    those that wait for a thread are not sent.
    """
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def mark(execution: str, ids: Sequence[str]) -> frozenset[str]:
        if "job-0" in ids:
            assert at_once == 1 or begun.wait(30)
            raise RedisConnectionError("gone")
        return frozenset()

    def slow(rows: list[dict[str, Any]]) -> None:
        begun.set()
        assert release.wait(30)
        ended.set()

    def release_and_wait(futures: Sequence[Future[None]]) -> None:
        """The store answers only when the delivery has noticed the failure and waits for the end."""
        release.set()
        wait(futures)

    store.rules.append(slow)
    monkeypatch.setattr("birdfeed_worker.pipeline.write.wait", release_and_wait)
    limiter = limiter_of(redis, keys)
    sender = sender_of(store, limiter, Clock(), mark)
    writer = Writer(store, sender, Clock(), WriteLimits(rows=1, bytes=10**6, at_once=at_once))
    made = items(2 if at_once == 2 else 5)

    jobs = {item.job_id: job(item.job_id) for item in made}
    with pytest.raises(RedisConnectionError), writer.delivery(jobs) as writing:
        writing.add("llm_events", made)

    # The thread with the failure may have started one more before the failure was noticed.
    written = [outcome for outcome in outcomes(made) if outcome == "Written"]
    assert len(written) == len(store.requests) <= 1
    assert ended.is_set() == (len(written) == 1)
    assert at_once == 1 or len(written) == 1
