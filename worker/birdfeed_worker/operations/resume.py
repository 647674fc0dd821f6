"""Resume: release what was paused, by the circuit breaker or because its data source refused everything."""

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

#: Scheduled jobs looked at in one round trip.
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Event types and data sources that go on, why they had been stopped, and the jobs that were brought forward."""

    types: dict[str, Trip]
    destinations: dict[str, Destination]
    jobs: int


def resume(connection: Redis, keys: Keys, name: str | None, *, disable_seconds: float) -> Resumed:
    """Resume a type or a data source (None: everything that is stopped) at once.

    Args:
        connection: Redis.
        keys: Names of the keys.
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
    # Without a name only what is stopped goes on; a type by name also has its circuit breaker disabled beforehand.
    for event_type in {*lifted, *((name,) if name in types else ())}:
        reset(connection, keys, event_type, off_seconds=disable_seconds, now=now)
    for source in opened:
        # Its failures are kept: one request finds out whether it is open, the others wait for what it finds.
        with connection.pipeline(transaction=False) as pipe:
            pipe.hset(keys.birdfeed(f"destination:{source}"), mapping={"backoff_until": "0", "probe_until": "0"})
            run_when_full(connection, keys, pipe)
    woken = {*lifted, *(event_type for event_type, source in types.items() if source in opened)}
    jobs = _bring_forward(connection, keys, woken, now) if woken else 0
    return Resumed(types=lifted, destinations=opened, jobs=jobs)


def _bring_forward(connection: Redis, keys: Keys, types: Collection[str], now: float) -> int:
    """Make scheduled jobs of these types due now. A job that must wait for another reason is put off again."""
    brought: set[str] = set()
    # A scan, a page at a time: all of a long outage's jobs at once would hold up everybody else.
    for page in batched((as_text(job_id) for job_id, _ in connection.zscan_iter(keys.scheduled, count=PAGE)), PAGE):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in page:
                pipe.hget(keys.job(job_id), TYPE_FIELD)
            found = pipe.execute()
        due = {job_id: now for job_id, kind in zip(page, found, strict=True) if as_text(kind or b"unknown") in types}
        if due:
            with connection.pipeline(transaction=False) as pipe:
                # Only those that still are scheduled.
                pipe.zadd(keys.scheduled, due, xx=True)
                run_when_full(connection, keys, pipe)
            brought.update(due)
    return len(brought)
