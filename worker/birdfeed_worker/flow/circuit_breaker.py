"""Dead-letter circuit breaker: a bad deploy must not turn the stream into dead letters.

If more than a set share of a type's recent events fail for one reason, the breaker trips: the type's events are
deferred, as in an outage, until an operator resets it (`birdfeed resume`). Replayed events are neither counted nor
deferred: they failed before, and they show whether the cause is fixed.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import orjson
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.clock import Clock
from birdfeed_worker.model import (
    POISON,
    Counted,
    Dead,
    Deferred,
    Item,
    Outcome,
    ReservedJob,
    Written,
    count_outcomes,
)
from birdfeed_worker.queue.kinds import named
from birdfeed_worker.queue.reply import as_text, epoch
from birdfeed_worker.queue.scripts import run_when_full, script
from birdfeed_worker.queue.trouble import is_unavailable

log = logging.getLogger(__name__)

#: Seconds for which a tripped type's jobs are deferred each time; `birdfeed resume` makes them due immediately.
DEFER_SECONDS: Final = 300.0
#: The breaker judges the last MEMORY * `least` events at most.
MEMORY: Final = 5
#: Reasons that are never deferred. Quarantined rows are already in Tinybird and must not be sent again: they are
#: dead-lettered, but still trip the breaker.
STAY_DEAD: Final = frozenset({"quarantined"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Why the breaker tripped for a type: `dead` of the last `seen` events failed with `reason`; `since` is epoch s."""

    reason: str
    dead: int
    seen: int
    since: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The result of one delivery for one type: events with an outcome, and dead events by reason."""

    events: int
    dead: Mapping[str, int]


def outcomes_of(counted: Counted) -> dict[str, Outcomes]:
    """What counts for the breaker, by event type. Pure.

    Deferred events have no outcome yet. Events that were dead before, and poison events (each was found individually),
    say nothing about a deploy.
    """
    came, dead = Counter[str](), dict[str, Counter[str]]()
    for (header, outcome, _), events in counted.items():
        event_type = header.event_type
        if not isinstance(outcome, Written | Dead) or not counts(header, outcome):
            continue
        came[event_type] += events
        if isinstance(outcome, Dead):
            dead.setdefault(event_type, Counter())[outcome.reason] += events
    return {event_type: Outcomes(events, dead.get(event_type, {})) for event_type, events in came.items()}


def counts(header: Header, outcome: Outcome | None) -> bool:
    """Whether the breaker counts such an event."""
    return not (header.replay_id or header.reason or outcome == POISON)


class DeadLetterBreaker:
    """The breaker as one worker sees it; its state is in Redis, shared by the pool.

    Args:
        share: It trips when more than this share of recent events failed for one reason; 1: never.
        least: Events needed before it judges.
    """

    def __init__(self, connection: Redis, keys: Keys, clock: Clock, *, share: float, least: int) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock
        self._share = share
        self._least = least
        self._count = script(connection, keys, "circuit_breaker")

    def tripped(self) -> frozenset[str]:
        """The types for which it has tripped; raises RedisError."""
        try:
            return frozenset(tripped(self._connection, self._keys))
        except RedisError as error:
            raise named(self._connection, self._keys, error) from error

    def defer(self, types: Collection[str], items: Sequence[Item], jobs: Mapping[str, ReservedJob]) -> None:
        """Defer the events of these types."""
        if types:
            self._wait(
                [item for item in items if item.header.event_type in types and counts(item.header, item.outcome)], jobs
            )

    def judge(self, items: Sequence[Item], jobs: Mapping[str, ReservedJob]) -> Counted:
        """Count the outcomes; if that trips a type, defer its events that would be dead-lettered for that reason.

        Returns the outcomes as they are then.
        """
        counted = count_outcomes(items)
        came = outcomes_of(counted)
        if not came or self._share >= 1:
            return counted
        for event_type, reason in zip(came, self._judged(came), strict=True):
            if not reason:
                continue
            spared = [] if reason in STAY_DEAD else [item for item in items if _died_of(item, event_type, reason)]
            self._wait(spared, jobs)
            log.critical(
                "the circuit breaker tripped for %s: too many of its events fail with %r; %d are deferred; fix the "
                "cause, and `birdfeed resume %s`",
                event_type,
                reason,
                len(spared),
                event_type,
            )
            if spared:
                counted = count_outcomes(items)
        return counted

    def judge_job(self, job: ReservedJob, reason: str) -> bool:
        """Count a job that would be dead-lettered whole; returns whether the breaker has tripped for its type."""
        if self._share >= 1 or job.event_type not in registry():
            return False
        return any(self._judged({job.event_type: Outcomes(job.events, {reason: job.events})}))

    def _judged(self, came: Mapping[str, Outcomes]) -> list[str]:
        """The reason for which each type has tripped, or ""."""
        limits = self._share, self._least, self._least * MEMORY
        calls = [
            [name, *limits, outcomes.events, *chain.from_iterable(outcomes.dead.items())]
            for name, outcomes in came.items()
        ]
        try:
            return [as_text(answer) for answer in self._count.run_all(calls)]
        except RedisError as error:
            if is_unavailable(error):
                raise
            # Its keys hold something that birdfeed didn't write. That must not keep events from being settled.
            log.error("the circuit breaker can't count events: %s", named(self._connection, self._keys, error))
            return [""] * len(calls)

    def _wait(self, items: Sequence[Item], jobs: Mapping[str, ReservedJob]) -> None:
        until = self._clock.time() + DEFER_SECONDS
        for item in items:
            item.outcome = Deferred(until, jobs[item.job_id].maybe_written_since)


def _died_of(item: Item, event_type: str, reason: str) -> bool:
    died = isinstance(item.outcome, Dead) and item.outcome.reason == reason
    return died and item.header.event_type == event_type and counts(item.header, item.outcome)


def tripped(connection: Redis, keys: Keys) -> dict[str, Trip]:
    """The types for which the breaker has tripped."""
    found = connection.hgetall(keys.birdfeed("breaker"))
    read = {as_text(name): read_trip(value) for name, value in found.items()}
    return {name: trip for name, trip in read.items() if trip is not None}


def read_trip(value: bytes | str) -> Trip | None:
    """An entry of the breaker's hash; None if birdfeed didn't write it, which must not stop a type. Pure."""
    try:
        fields = orjson.loads(value)
        trip = Trip(
            reason=fields["reason"],
            dead=int(fields["dead"]),
            seen=int(fields["seen"]),
            since=float(fields["since"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return trip if isinstance(trip.reason, str) else None


def disabled(connection: Redis, keys: Keys, now: float) -> dict[str, float]:
    """The types whose breaker is disabled, and until when (epoch s)."""
    found = {
        as_text(name): epoch(until) or 0.0 for name, until in connection.hgetall(keys.birdfeed("breaker-off")).items()
    }
    return {name: until for name, until in sorted(found.items()) if until > now}


def reset(connection: Redis, keys: Keys, event_type: str, *, off_seconds: float = 0.0, now: float) -> bool:
    """Reset a type's breaker and disable it for `off_seconds`; returns whether it had tripped."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.hdel(keys.birdfeed("breaker"), event_type)
        pipe.delete(keys.birdfeed(f"breaker-window:{event_type}"))
        if off_seconds > 0:
            pipe.hset(keys.birdfeed("breaker-off"), event_type, repr(now + off_seconds))
        else:
            pipe.hdel(keys.birdfeed("breaker-off"), event_type)
        was = run_when_full(connection, keys, pipe)[0]
    return bool(was)
