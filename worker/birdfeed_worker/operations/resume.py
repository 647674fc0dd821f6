"""Resume what was paused, by the circuit breaker or because its data source refused everything."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import TYPE_FIELD, Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.flow.circuit_breaker import Trip, reset, tripped
from birdfeed_worker.flow.destinations import Destination, destinations
from birdfeed_worker.queue.redis_time import redis_time
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import run_when_full

#: Scheduled jobs read in one round trip.
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Event types and data sources that were resumed, why they had been paused, and the number of jobs made due."""

    types: dict[str, Trip]
    destinations: dict[str, Destination]
    jobs: int


def resume(connection: Redis, keys: Keys, name: str | None, *, disable_seconds: float) -> Resumed:
    """Resume a type or a data source (None: everything that is paused) immediately.

    Args:
        name: An event type or a data source.
        disable_seconds: Seconds for which the circuit breaker of these types is disabled.

    Raises:
        ValueError: Nothing has that name.
    """
    now = redis_time(connection)
    stopped, closed = tripped(connection, keys), destinations(connection, keys, now)
    types = {known.name: known.datasource for known in registry().values()}
    if name is not None and name not in {*types, *types.values(), *stopped}:
        raise ValueError(
            f"no event type or data source is named {name!r}: {', '.join(sorted({*types, *types.values()}))}"
        )
    sources = {name, types.get(name, name)} if name is not None else None
    lifted = {
        event_type: why
        for event_type, why in stopped.items()
        if sources is None or event_type in sources or types.get(event_type) == name
    }
    opened = {
        source: state
        for source, state in closed.items()
        if state.state != "available" and (sources is None or source in sources)
    }
    # Without a name, only what is paused is resumed. A named type's breaker is also disabled if it has not tripped.
    for event_type in {*lifted, *((name,) if name in types else ())}:
        reset(connection, keys, event_type, off_seconds=disable_seconds, now=now)
    for source in opened:
        # Its failure count is kept, so that one request probes whether it is available while the others wait.
        with connection.pipeline(transaction=False) as pipe:
            pipe.hset(keys.birdfeed(f"destination:{source}"), mapping={"backoff_until": "0", "probe_until": "0"})
            run_when_full(connection, keys, pipe)
    woken = {*lifted, *(event_type for event_type, source in types.items() if source in opened)}
    jobs = _bring_forward(connection, keys, woken, now) if woken else 0
    return Resumed(types=lifted, destinations=opened, jobs=jobs)


def _bring_forward(connection: Redis, keys: Keys, types: Collection[str], now: float) -> int:
    """Make scheduled jobs of these types due now. A job that must wait for another reason is deferred again."""
    brought: set[str] = set()
    # A scan, a page at a time: reading all jobs of a long outage at once would block Redis.
    for page in batched((as_text(job_id) for job_id, _ in connection.zscan_iter(keys.scheduled, count=PAGE)), PAGE):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in page:
                pipe.hget(keys.job(job_id), TYPE_FIELD)
            found = pipe.execute()
        due = {job_id: now for job_id, kind in zip(page, found, strict=True) if as_text(kind or b"unknown") in types}
        if due:
            with connection.pipeline(transaction=False) as pipe:
                # Only those that are still scheduled.
                pipe.zadd(keys.scheduled, due, xx=True)
                run_when_full(connection, keys, pipe)
            brought.update(due)
    return len(brought)
