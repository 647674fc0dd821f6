"""Status: the health of the whole system, read from Redis in a few round trips."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from itertools import islice
from typing import Any, Final
from uuid import UUID

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.dead_letters.query import letters_of
from birdfeed_worker.flow.circuit_breaker import Trip, disabled, tripped
from birdfeed_worker.flow.destinations import Destination, destinations
from birdfeed_worker.model import UNREPLICATED
from birdfeed_worker.monitoring.counters import SAMPLE_SECONDS
from birdfeed_worker.monitoring.depth import Depth, depth
from birdfeed_worker.monitoring.ledger import Ledger, read_ledger
from birdfeed_worker.monitoring.redis_check import redis_warnings
from birdfeed_worker.queue.reply import as_text

#: Seconds an event may be under way before that counts as late.
LATE_SECONDS: Final = 300.0
#: Seconds over which rates are averaged.
RATE_SECONDS: Final = 60
#: Jobs of each place, and dead letters, that are looked at for the oldest.
LOOKED_AT: Final = 10_000
#: Seconds without a heartbeat after which a worker doesn't count as alive.
SILENT_SECONDS: Final = 60.0


class Health(IntEnum):
    """As exit codes: 0 well; 1 something is not as it should be; 3 nothing is delivered."""

    HEALTHY = 0
    DEGRADED = 1
    DOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker process: where it runs, what it does, its jobs in flight, and how many it has done since its start.

    `silent` is seconds since its last heartbeat.
    """

    name: str
    host: str
    pid: int
    state: str
    in_flight: int
    done: int
    silent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReason:
    """Dead events of one reason, and for how many seconds the oldest has been dead (None: it wasn't come upon)."""

    events: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Events a second over the last `seconds`."""

    accepted: float
    written: float
    dead: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything `birdfeed status` shows. Times are seconds from now; `lag` is the age of the oldest job under way.

    `disabled` are the types whose circuit breaker is off, until epoch s.

    `unreplicated` is how many replicas a worker found lately, of how many it needs; empty where that is enough.
    """

    depth: Depth
    lag: float | None
    next_due: float | None
    rates: Rates | None
    workers: Sequence[WorkerState]
    destinations: Mapping[str, Destination]
    tripped: Mapping[str, Trip]
    dead: Mapping[str, DeadReason]
    dead_bytes: int | None
    costs: Mapping[str, int]
    ledger: Ledger
    warnings: Sequence[str]
    now: float
    unreplicated: str = ""
    disabled: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = field(default_factory=tuple)
    health: Health = Health.HEALTHY

    @property
    def unpriced(self) -> float | None:
        """The share of rows that could not be priced, of all that should have been; None if there are none."""
        rows = sum(amount for status, amount in self.costs.items() if status != "no_usage")
        return self.costs.get("unpriced", 0) / rows if rows else None


def read_status(connection: Redis, keys: Keys, now: float) -> Status:
    """Read it. `now` is epoch seconds."""
    ledger = read_ledger(connection, keys, quick=True)
    at = depth(connection, keys)
    due: list[Any] = connection.zrange(keys.scheduled, 0, 0, withscores=True)
    size = connection.hget(keys.birdfeed("dead-size"), "bytes")
    unreplicated = connection.get(keys.birdfeed(UNREPLICATED))
    status = Status(
        depth=at,
        lag=_lag(connection, keys, now),
        next_due=max(0.0, due[0][1] - now) if due else None,
        rates=_rates(connection, keys, ledger, now),
        workers=_workers(connection, keys, now),
        destinations=destinations(connection, keys, now),
        tripped=tripped(connection, keys),
        dead=_dead(connection, keys, ledger.total.dead, now),
        dead_bytes=None if size is None else int(size),
        costs=_costs(connection, keys),
        ledger=ledger,
        warnings=redis_warnings(connection),
        now=now,
        unreplicated=as_text(unreplicated or ""),
        disabled=disabled(connection, keys, now),
    )
    return judged(status)


def judged(status: Status) -> Status:
    """The same with what is not well, one sentence each, and the verdict. Pure."""
    problems, health = [], Health.HEALTHY
    alive = [worker for worker in status.workers if worker.silent < SILENT_SECONDS]
    if not alive:
        problems.append("no worker runs: `birdfeed worker` starts a pool")
        health = Health.DOWN
    if status.unreplicated:
        problems.append(
            f"workers wait for replicas: {status.unreplicated} that BIRDFEED_WAIT_REPLICAS asks for are in step"
        )
    for name, why in status.tripped.items():
        problems.append(
            f"{name} is deferred by its circuit breaker: {why.dead} of {why.seen} recent events died of "
            f"{why.reason}; look at `birdfeed dead list --type {name}`, fix the cause, then `birdfeed resume {name}`"
        )
    for name, state in status.destinations.items():
        if state.state == "paused":
            problems.append(f"{name} refuses every request: {state.reason}; fix the cause, then it resumes by itself")
        elif state.state == "backing_off":
            problems.append(f"{name} takes no rows now: {state.reason}; its events wait")
    if status.lag is not None and status.lag > LATE_SECONDS and not (problems or status.tripped):
        problems.append(f"the oldest event has been under way for {status.lag / 60:.0f} minutes: more workers?")
    if status.ledger.consistent and not status.ledger.balanced:
        problems.append("the ledger does not balance: `birdfeed ledger` names suspects")
    problems += status.warnings
    if problems and health is Health.HEALTHY:
        health = Health.DEGRADED
    return replace(status, problems=tuple(problems), health=health)


def _lag(connection: Redis, keys: Keys, now: float) -> float | None:
    """By the time that is part of a job's id (a UUIDv7): no job need be read for it."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.lrange(keys.queue_list, 0, LOOKED_AT - 1)
        pipe.zrange(keys.started, 0, LOOKED_AT - 1)
        pipe.zrange(keys.scheduled, 0, LOOKED_AT - 1)
        found = [as_text(member).partition(":")[0] for ids in pipe.execute() for member in ids]
    made = [at for job_id in found if (at := made_at(job_id)) is not None]
    return max(0.0, now - min(made)) if made else None


def made_at(job_id: str) -> float | None:
    """When a job was made (epoch s), from its id; None for an id of somebody else's form."""
    try:
        value = UUID(job_id[-36:])
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None


def _rates(connection: Redis, keys: Keys, ledger: Ledger, now: float) -> Rates | None:
    wanted = RATE_SECONDS // SAMPLE_SECONDS + 1
    samples: list[Any] = connection.xrevrange(keys.birdfeed("samples"), count=wanted) or []
    total = ledger.total
    for entry_id, sums in reversed(samples):
        at = int(as_text(entry_id).partition("-")[0]) / 1000
        seconds = now - at
        if seconds < 1 or seconds > 2 * RATE_SECONDS:
            continue
        before = {as_text(name): int(amount) for name, amount in sums.items()}
        return Rates(
            accepted=(total.accepted - before.get("accepted", 0)) / seconds,
            written=(total.written - before.get("written", 0)) / seconds,
            dead=max(0.0, (sum(total.dead.values()) - before.get("dead", 0)) / seconds),
            seconds=seconds,
        )
    return None


def _workers(connection: Redis, keys: Keys, now: float) -> list[WorkerState]:
    names = sorted(as_text(key) for key in connection.smembers(f"{keys.prefix}:workers:{keys.queue}"))
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(name)
            pipe.scard(f"{name}:executions")
        found = pipe.execute()
    workers = []
    for name, known, in_flight in zip(names, found[::2], found[1::2], strict=True):
        read = {as_text(key): as_text(value) for key, value in known.items()}
        if not read:
            continue
        workers.append(
            WorkerState(
                name=name.removeprefix(f"{keys.prefix}:worker:"),
                host=read.get("hostname", ""),
                pid=int(read.get("pid") or 0),
                state=read.get("state") or "starting",
                in_flight=in_flight,
                done=int(read.get("successful_job_count") or 0),
                silent=now - _epoch(read.get("last_heartbeat"), now),
            )
        )
    return workers


def _dead(connection: Redis, keys: Keys, counted: Mapping[str, int], now: float) -> dict[str, DeadReason]:
    oldest: dict[str, float] = {}
    missing = set(counted)
    for letter in islice(letters_of(connection, keys), LOOKED_AT if missing else 0):
        if letter.reason in missing:
            missing.discard(letter.reason)
            oldest[letter.reason] = now - _epoch(letter.first_failed_at, now)
        if not missing:
            break
    return {reason: DeadReason(events=events, oldest=oldest.get(reason)) for reason, events in counted.items()}


def _costs(connection: Redis, keys: Keys) -> dict[str, int]:
    costs = Counter[str]()
    for name, amount in connection.hgetall(keys.birdfeed("costs")).items():
        costs[as_text(name).rpartition(":")[2]] += int(amount)
    return dict(costs)


def _epoch(text: str | None, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return otherwise
