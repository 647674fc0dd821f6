"""A writer on a store in memory."""

from collections.abc import Sequence
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.rate_limit import RateLimiter
from birdfeed_worker.model import Item
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from redis import Redis

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, Write, job, limiter_of, sender_of


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def marks() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
def limiter(redis: Redis, keys: Keys) -> RateLimiter:
    return limiter_of(redis, keys)


@pytest.fixture
def write(limiter: RateLimiter, store: FakeStore, marks: list[tuple[str, ...]]) -> Write:
    def mark(execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        marks.append(tuple(job_ids))
        return frozenset({"job-of-somebody-else"})

    clock = Clock(time=lambda: NOW)
    writer = Writer(store, sender_of(store, limiter, clock, mark), clock, WriteLimits(1000, 10**6))

    def write(made: Sequence[Item], **fields: dict[str, Any]) -> None:
        jobs = {
            job_id: job(job_id, **fields.get(job_id.replace("-", "_"), {})) for job_id in {item.job_id for item in made}
        }
        with writer.delivery(jobs) as writing:
            writing.add("llm_events", made)

    return write
