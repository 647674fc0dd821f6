"""Reconcile: compare the ledger with the dead letters that exist, and name what may have removed the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from birdfeed_schemas.safety.redis_facts import redis_facts
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.accounts import account_of
from birdfeed_schemas.wire.keys import EVENTS_FIELD, Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.dead_letters.sums import sums
from birdfeed_worker.monitoring.ledger import ANOMALIES, Ledger, read_ledger, under_way
from birdfeed_worker.queue.reply import as_text, number
from birdfeed_worker.queue.reserve import MOST_EVENTS
from birdfeed_worker.queue.scripts import run_when_full

#: Job keys scanned in search of jobs that are in no registry.
SCANNED_JOBS: Final = 200_000
#: rq's registries that birdfeed never uses.
UNUSED: Final = ("deferred", "canceled", "finished")
#: How often everything is read at most, if something moved in the meantime.
LOOKS: Final = 3
#: A Redis that was started more recently than this is named as a suspect.
RECENT_HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The differences that were found.

    Attributes:
        missing: Event type → events that are nowhere (below 0: too many).
        dead_orphaned: (event type, reason) → how many more events are dead in the ledger than in dead letters (below 0:
            fewer).
        uncounted: Events in jobs that rq failed by itself and that retention has not counted yet; also in `missing`.
        suspects: Possible causes, one sentence each; also anomalies that are harmless by themselves.
        consistent: Whether nothing moved during the reading; if not, it is not certain that anything is missing.
    """

    missing: Mapping[str, int] = field(default_factory=dict)
    dead_orphaned: Mapping[tuple[str, str], int] = field(default_factory=dict)
    uncounted: int = 0
    suspects: tuple[str, ...] = ()
    consistent: bool = True

    @property
    def balanced(self) -> bool:
        """Whether everything adds up, as far as can be known while jobs move."""
        return not (self.missing or self.dead_orphaned) or not self.consistent


def reconcile(connection: Redis, keys: Keys) -> tuple[Ledger, Findings]:
    """Read the ledger and everything that it must agree with; if they differ, look for causes."""
    for _ in range(LOOKS):
        before = read_ledger(connection, keys)
        there, uncounted = _dead_there(connection, keys)
        ledger = read_ledger(connection, keys)
        for entry, amount in ledger.requeued.items():
            event_type, _, reason = entry.rpartition(":")
            there[event_type, reason] += amount
        still = (before.requeued, _dead(before)) == (ledger.requeued, _dead(ledger))
        orphaned = _differences(_dead(ledger), there) if still else {}
        if still and not orphaned:
            break
    missing = {name: account.missing for name, account in ledger.accounts.items() if account.missing}
    suspects = [counted(amount, *ANOMALIES[name]) for name, amount in sorted(ledger.anomalies.items()) if amount]
    if missing or orphaned:
        suspects += _suspects(connection, keys, orphaned, uncounted)
    return ledger, Findings(
        missing=missing,
        dead_orphaned=orphaned,
        uncounted=uncounted,
        suspects=tuple(suspects),
        consistent=ledger.consistent and still,
    )


def _dead(ledger: Ledger) -> Counter[tuple[str, str]]:
    return Counter(
        {(name, reason): amount for name, account in ledger.accounts.items() for reason, amount in account.dead.items()}
    )


def _dead_there(connection: Redis, keys: Keys) -> tuple[Counter[tuple[str, str]], int]:
    """Events in dead letters by (type, reason), and events in jobs that rq failed and that are not counted yet."""
    there, uncounted = Counter[tuple[str, str]](), 0
    fields = frozenset(as_text(name) for name in connection.hgetall(keys.ledger))
    for one in (one for page in sums(connection, keys) for one in page):
        if one.counted:
            there[account_of(fields, one.event_type), one.reason] += one.events
        else:
            uncounted += one.events
    return there, uncounted


def _differences(counted: Counter[tuple[str, str]], there: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {key: counted[key] - there[key] for key in {*counted, *there} if counted[key] != there[key]}


def _suspects(connection: Redis, keys: Keys, orphaned: Mapping[tuple[str, str], int], uncounted: int) -> list[str]:
    said = []
    if uncounted:
        events = counted(uncounted, "event is", "events are")
        said.append(
            f"{events} in jobs that rq itself marked as failed (perhaps a stock rq worker took them); a running "
            "birdfeed worker counts them as dead within a minute"
        )
    if any(amount > 0 for amount in orphaned.values()):
        said.append("dead letters are gone without a purge: another tool (rq, rq-dashboard) deleted failed jobs")
    for name in UNUSED:
        if amount := connection.zcard(f"{keys.prefix}:{name}:{keys.queue}"):
            said.append(f"{counted(amount, 'job is', 'jobs are')} in rq's {name} registry, which birdfeed never uses")
    if amount := connection.llen(f"{keys.queue_list}:intermediate"):
        said.append(
            f"{counted(amount, 'job is', 'jobs are')} in rq's intermediate list: a stock rq worker took jobs from this "
            "queue"
        )
    strays, in_strays = _strays(connection, keys)
    if strays:
        events, jobs = counted(in_strays, "event is", "events are"), counted(len(strays), "job")
        said.append(f"{events} in {jobs} without a registry, such as {strays[0]}")
    try:
        if evicted := connection.info("stats").get("evicted_keys"):
            said.append(
                f"Redis has evicted {counted(evicted, 'key')} since it started: queued events may be among them"
            )
        hours = connection.info("server").get("uptime_in_seconds", 10**9) / 3600
        if hours < RECENT_HOURS:
            said.append(f"Redis started {hours:.1f} hours ago; what its append-only file didn't hold is lost")
    except RedisError:
        pass  # INFO may be forbidden; the other suspects still count
    return said + redis_facts(connection).warnings


def _strays(connection: Redis, keys: Keys) -> tuple[list[str], int]:
    """Keys of this queue's jobs that are in none of birdfeed's registries, and the number of their events."""
    known = {job_id for ids in under_way(connection, keys) for job_id in ids}
    known |= {as_text(job_id) for job_id, _ in connection.zscan_iter(keys.failed, count=1_000)}
    strays, events = [], 0
    prefix = keys.job("")
    for looked, key in enumerate(connection.scan_iter(match=f"{prefix}*", count=1_000)):
        if looked >= SCANNED_JOBS:
            break
        if as_text(key).removeprefix(prefix) in known:
            continue
        origin, amount = connection.hmget(as_text(key), "origin", EVENTS_FIELD)
        if as_text(origin or b"") == keys.queue:
            strays.append(as_text(key))
            events += number(amount, 1, MOST_EVENTS)
    return strays, events


def write_off(connection: Redis, keys: Keys) -> tuple[int, Findings]:
    """Count what is missing as purged, so that the ledger balances; returns the number of events, and the findings.

    It does so only if nothing moves. An excess (more events than were accepted) is never written off, nor is what
    retention will count by itself.
    """
    _, findings = reconcile(connection, keys)
    if findings.balanced or findings.uncounted:
        return 0, findings
    total = 0
    with connection.pipeline(transaction=False) as pipe:
        for event_type, amount in findings.missing.items():
            if amount > 0:
                pipe.hincrby(keys.ledger, f"purged:{event_type}", amount)
                pipe.hincrby(keys.ledger, f"purged_as:{event_type}:missing", amount)
                total += amount
        for (event_type, reason), amount in findings.dead_orphaned.items():
            if amount > 0:
                pipe.hincrby(keys.ledger, f"dead:{event_type}:{reason}", -amount)
                pipe.hincrby(keys.ledger, f"fell:dead:{event_type}:{reason}", amount)
                pipe.hincrby(keys.ledger, f"purged:{event_type}", amount)
                pipe.hincrby(keys.ledger, f"purged_as:{event_type}:{reason}", amount)
                total += amount
        run_when_full(connection, keys, pipe)
    return total, findings
