"""Status: the health of the whole system, read from Redis in a few round trips."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.safety.redis_facts import redis_facts
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.dead_letters.query import read
from birdfeed_worker.dead_letters.sums import PAGE, sums
from birdfeed_worker.flow.circuit_breaker import disabled, tripped
from birdfeed_worker.flow.destinations import destinations
from birdfeed_worker.flow.refusals import refusals
from birdfeed_worker.flow.verification import unanswered
from birdfeed_worker.model import UNREPLICATED
from birdfeed_worker.monitoring.counters import SAMPLE_SECONDS
from birdfeed_worker.monitoring.depth import depth
from birdfeed_worker.monitoring.facts import DeadReason, Rates, Status, WorkerState
from birdfeed_worker.monitoring.ledger import Ledger, read_ledger
from birdfeed_worker.monitoring.minutes import read_minutes
from birdfeed_worker.monitoring.producers import read_producers, read_spools
from birdfeed_worker.monitoring.verdict import judged
from birdfeed_worker.queue.kinds import check_kinds
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.tinybird.schema_state import read_mismatches

#: A UUIDv7 at the end of a job's id.
_MADE_BY_TIME: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
#: Minutes that are read.
MINUTES: Final = 60
#: Seconds over which rates are averaged.
RATE_SECONDS: Final = 60
#: Jobs in each place, and dead letters, that are examined to find the oldest.
LOOKED_AT: Final = 10_000


def read_status(connection: Redis, keys: Keys, now: float) -> Status:
    """Read the status. `now` is epoch seconds.

    Raises:
        WrongKindError: A key that all jobs share holds a value of the wrong type.
        RedisError: Redis is away or refuses.
    """
    check_kinds(connection, keys)
    ledger = read_ledger(connection, keys, quick=True)
    at = depth(connection, keys)
    due: list[Any] = connection.zrange(keys.scheduled, 0, 0, withscores=True)
    facts, producers = redis_facts(connection), read_producers(connection, keys)
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
        now=now,
        unreplicated=as_text(unreplicated or ""),
        disabled=disabled(connection, keys, now),
        redis=facts,
        refusals=refusals(connection, keys),
        unanswered=unanswered(connection, keys, sorted({one.datasource for one in registry().values()})),
        mismatches=read_mismatches(connection, keys),
        producers=producers,
        spools=read_spools(connection, keys, producers, now),
        minutes=read_minutes(connection, keys, now, MINUTES),
    )
    return judged(status)


def _lag(connection: Redis, keys: Keys, now: float) -> float | None:
    """The age of the oldest job, from the time in job ids (UUIDv7), so that no job must be read."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.lrange(keys.queue_list, 0, LOOKED_AT - 1)
        pipe.zrange(keys.started, 0, LOOKED_AT - 1)
        pipe.zrange(keys.scheduled, 0, LOOKED_AT - 1)
        found = [as_text(member).partition(":")[0] for ids in pipe.execute() for member in ids]
    # These ids, as text, are in the order of time.
    made = [match[0] for job_id in found if (match := _MADE_BY_TIME.search(job_id))]
    oldest = made_at(min(made)) if made else None
    return None if oldest is None else max(0.0, now - oldest)


def made_at(job_id: str) -> float | None:
    """When a job was created (epoch s), from its id; None if the id has another form."""
    found = _MADE_BY_TIME.search(job_id)
    return int(found[0].replace("-", "")[:12], 16) / 1000 if found else None


def _rates(connection: Redis, keys: Keys, ledger: Ledger, now: float) -> Rates | None:
    wanted = RATE_SECONDS // SAMPLE_SECONDS + 1
    samples: list[Any] = connection.xrevrange(keys.birdfeed("samples"), count=wanted) or []
    total = ledger.total
    for entry_id, sample in reversed(samples):
        at = int(as_text(entry_id).partition("-")[0]) / 1000
        seconds = now - at
        if seconds < 1 or seconds > 2 * RATE_SECONDS:
            continue
        before = {as_text(name): int(amount) for name, amount in sample.items()}
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
    first: dict[str, str] = {}
    for page in islice(sums(connection, keys), LOOKED_AT // PAGE if counted else 0):
        for one in page:
            first.setdefault(one.reason, one.oldest)
        if first.keys() >= counted.keys():
            break
    letters = read(connection, keys, list(first.values()))
    oldest = {letter.reason: now - _epoch(letter.first_failed_at, now) for letter in letters}
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
