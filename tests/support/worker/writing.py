"""Shared by tests of writing: valid items with rows, and the sender."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson
from birdfeed_schemas.wire.envelope import Header, encode_event
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.rate_limit import Limits, RateLimiter
from birdfeed_worker.flow.refusals import Refusals
from birdfeed_worker.model import Item, ReservedJob
from birdfeed_worker.pipeline.send import Sender
from redis import Redis

from tests.support.events import envelope, text
from tests.support.worker.fake_store import FakeStore

#: Writes items to llm_events; keyword arguments are fields of their jobs, by job id with an underscore.
Write = Callable[..., None]
Mark = Callable[[str, Sequence[str]], frozenset[str]]
NOW = 1_800_000_000.0


class Stop:
    """A stop event that doesn't wait: it records the waits, and is set after some of them."""

    def __init__(self, after: int = 99) -> None:
        self.waited: list[float] = []
        self.after = after
        self.then: Callable[[], object] = lambda: None

    def is_set(self) -> bool:
        """Whether it had as many waits as after which it is set."""
        return len(self.waited) >= self.after

    def wait(self, seconds: float) -> bool:
        """Record the wait, and run what the test wants to happen meanwhile."""
        self.waited.append(seconds)
        self.then()
        return self.is_set()


def job(job_id: str, **fields: Any) -> ReservedJob:
    """A job in flight."""
    given: dict[str, Any] = {
        "execution": "e1",
        "data": b"",
        "event_type": "text_generation",
        "events": 1,
        "size": 1,
        "attempts": 1,
        "first_reserved": NOW,
    }
    return ReservedJob(id=job_id, **{**given, **fields})


def items(count: int, when: datetime | None = None, **header: Any) -> list[Item]:
    """Valid items with rows."""
    made = []
    for number in range(count):
        event = envelope(text()) if when is None else envelope(text(), when=when)
        head = Header(batch_id="b", event_type="text_generation", count=count, **header)
        row = orjson.dumps({"event_id": event.event_id, "n": number})
        made.append(Item(f"job-{number % 3}", head, encode_event(event), event, row))
    return made


def outcomes(made: Sequence[Item]) -> list[str]:
    """The kinds of their outcomes."""
    return [type(item.outcome).__name__ for item in made]


def limiter_of(redis: Redis, keys: Keys, name: str = "w1", requests: float = 1e6, size: float = 1e12) -> RateLimiter:
    """A worker's rate limiter, by default with rates that are never reached."""
    return RateLimiter(redis, keys, name, Limits(requests, size, 1.0, 60.0, 50.0), draw=lambda: 0.5)


def sender_of(
    store: FakeStore,
    limiter: RateLimiter,
    clock: Clock,
    mark: Mark = lambda execution, job_ids: frozenset(),
    refusals: Refusals | None = None,
) -> Sender:
    """A worker's sender; by default there are no other workers whose tokens could be refused."""
    return Sender(
        store,
        limiter,
        clock,
        bisect_requests=64,
        settle_seconds=60.0,
        mark=mark,
        refusals=refusals or refusals_of(limiter, clock),
    )


def refusals_of(limiter: RateLimiter, clock: Clock, worker: str = "w1") -> Refusals:
    """A worker's refusals, in the limiter's Redis."""
    return Refusals(limiter.connection, limiter.keys, worker, f"host-of-{worker}", clock, draw=lambda: 0.5)
