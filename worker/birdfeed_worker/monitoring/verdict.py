"""The verdict: one table of rules that find what is wrong in a status. Pure.

`birdfeed status`, /readyz and the metrics all use it, so that they never disagree. docs/how-to/runbook.md has the same
table, and a section for each rule; a test compares them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import SILENT_SECONDS

from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring.facts import Finding, Health, Rule, Status
from birdfeed_worker.monitoring.minutes import WORKER_ENDS, by_last_part, lost, total
from birdfeed_worker.tinybird.schema_compare import in_one_line

#: Seconds that an event may take before it counts as late.
LATE_SECONDS: Final = 300.0
#: Shares of Redis's memory limit: above the first a warning is given, above the second Redis counts as full.
MEMORY_SHARE: Final = 0.8
FULL_SHARE: Final = 0.98
#: How many workers must have ended unexpectedly, and in how many minutes.
ENDS: Final = 5
ENDS_MINUTES: Final = 10
#: The share of events that died, over how many minutes, and the fewest events that are judged.
DYING_SHARE: Final = 0.01
DYING_MINUTES: Final = 15
DYING_EVENTS: Final = 20
#: The fewest events that died in the last hour, with some in each third of it.
GROWING_EVENTS: Final = 100
#: The share of the last hour's rows without a full price, and the fewest rows that are judged.
UNPRICED_SHARE: Final = 0.05
UNPRICED_ROWS: Final = 100
#: Seconds that an event may wait in a spool while Redis answers.
SPOOLED_SECONDS: Final = 120.0


def judged(status: Status) -> Status:
    """The same status with the verdict."""
    findings = tuple(Finding(rule, message) for rule in RULES for message in rule.find(status))
    return replace(status, findings=findings, health=max((one.rule.health for one in findings), default=Health.HEALTHY))


def _no_worker(status: Status) -> Iterator[str]:
    if not any(worker.silent < SILENT_SECONDS for worker in status.workers):
        yield "no worker is running: start a pool with `birdfeed worker`"


def _restarting(status: Status) -> Iterator[str]:
    ends = sum(minute[WORKER_ENDS] for minute in status.minutes[-ENDS_MINUTES:])
    if ends >= ENDS:
        yield f"workers keep exiting: {ends} times in {ENDS_MINUTES} minutes; their log says why"


def _full(status: Status) -> Iterator[str]:
    share = status.redis.memory_share
    if share is not None and share >= FULL_SHARE:
        yield f"Redis is full ({_memory(status)}): producers spool to disk, and workers make room by writing"


def _memory_runs_out(status: Status) -> Iterator[str]:
    share = status.redis.memory_share
    if share is not None and MEMORY_SHARE <= share < FULL_SHARE:
        yield f"Redis uses {share:.0%} of its memory ({_memory(status)}); once it is full, producers spool to disk"


def _memory(status: Status) -> str:
    used, most = status.redis.memory_used or 0, status.redis.memory_max or 0
    return f"{used / 1e6:,.0f} of {most / 1e6:,.0f} MB"


def _unreplicated(status: Status) -> Iterator[str]:
    if status.unreplicated:
        yield f"workers wait for replicas: {status.unreplicated} that BIRDFEED_WAIT_REPLICAS requires are up to date"


def _tripped(status: Status) -> Iterator[str]:
    for name, why in status.tripped.items():
        yield (
            f"{name} is deferred by its circuit breaker: {why.dead} of {why.seen} recent events failed with "
            f"{why.reason}; look at `birdfeed dead list --type {name}`, fix the cause, then `birdfeed resume {name}`"
        )


def _breaker_off(status: Status) -> Iterator[str]:
    for name, until in status.disabled.items():
        at = datetime.fromtimestamp(until, UTC)
        yield f"the circuit breaker of {name} is turned off until {at:%H:%M} UTC: bad events become dead letters"


def _paused(status: Status) -> Iterator[str]:
    for name, state in status.destinations.items():
        if state.state == "paused":
            yield f"{name} refuses every request: {state.reason}; fix the cause, and it resumes by itself"


def _backing_off(status: Status) -> Iterator[str]:
    for name, state in status.destinations.items():
        if state.state == "backing_off":
            yield f"{name} takes no rows at the moment: {state.reason}; its events wait"


def _refused(status: Status) -> Iterator[str]:
    workers = sum(worker.silent < SILENT_SECONDS for worker in status.workers)
    everybody = Counter(refusal.datasource for refusal in status.refusals)
    for (datasource, host), refused in by_host(status.refusals).items():
        if status.destinations.get(datasource) and status.destinations[datasource].state == "paused":
            continue  # every worker is refused: another rule reports that
        taken = "the others take its jobs" if everybody[datasource] < workers else "no other worker takes its jobs"
        yield (
            f"{datasource} refuses the token of {host} ({len(refused)} of {workers} workers): {refused[0].reason}; "
            f"{taken}; renew the token in its TINYBIRD_TOKEN_FILE, or restart it with the right TINYBIRD_TOKEN"
        )


def _unanswered(status: Status) -> Iterator[str]:
    for name, why in status.unanswered.items():
        minutes = max(0.0, status.now - why.since) / 60
        yield (
            f"for {counted(round(minutes), 'minute')}, {why.host} has not been able to ask {name} which rows it has: "
            f"{why.reason}; events with unknown outcome wait, so that none is written twice"
        )


def _schema(status: Status) -> Iterator[str]:
    if status.mismatches:
        yield in_one_line(status.mismatches)


def _late(status: Status) -> Iterator[str]:
    waits = any(state.state != "available" for state in status.destinations.values())
    explained = waits or status.tripped or status.unanswered or status.unreplicated or not status.workers
    if status.lag is not None and status.lag > LATE_SECONDS and not explained:
        yield f"the oldest event has waited for {counted(round(status.lag / 60), 'minute')}: start more workers?"


def _dropped(status: Status) -> Iterator[str]:
    reasons = lost(status.minutes)
    if reasons:
        listed = ", ".join(f"{reason} {events:,}" for reason, events in sorted(reasons.items()))
        yield f"producers dropped {counted(reasons.total(), 'event')} in the last hour: {listed}"


def _spooled(status: Status) -> Iterator[str]:
    for spool in status.spools:
        if spool.producers and spool.oldest >= SPOOLED_SECONDS:
            yield (
                f"{counted(spool.events, 'event waits', 'events wait')} in the spool of {spool.host}, the oldest for "
                f"{counted(round(spool.oldest / 60), 'minute')}, although Redis answers"
            )


def _orphaned_spool(status: Status) -> Iterator[str]:
    for spool in status.spools:
        if not spool.producers:
            yield (
                f"{counted(spool.events, 'event waits', 'events wait')} in the spool of {spool.host}, where no "
                "producer is running: run `birdfeed spool drain` there"
            )


def _dying(status: Status) -> Iterator[str]:
    dead, written = (total(status.minutes, kind, DYING_MINUTES) for kind in ("dead", "written"))
    if status.dead and dead + written >= DYING_EVENTS and dead / (dead + written) >= DYING_SHARE:
        yield (
            f"{dead / (dead + written):.1%} of the events of the last {DYING_MINUTES} minutes became dead letters "
            f"({dead:,} of {dead + written:,}): `birdfeed dead list` shows why"
        )


def _growing(status: Status) -> Iterator[str]:
    minutes, part = status.minutes, max(1, len(status.minutes) // 3)
    parts = [total(minutes[start : start + part], "dead") for start in range(0, 3 * part, part)]
    if status.dead and sum(parts) >= GROWING_EVENTS and all(parts) and not any(True for _ in _dying(status)):
        yield f"events keep failing: {sum(parts):,} dead in the last hour; `birdfeed dead list` shows why"


def _unpriced(status: Status) -> Iterator[str]:
    costs = by_last_part(status.minutes, "cost")
    rows, without = costs.total() - costs["no_usage"], costs["unpriced"] + costs["partial"]
    if rows >= UNPRICED_ROWS and without / rows >= UNPRICED_SHARE:
        yield f"{without / rows:.1%} of the last hour's rows have no full price: `birdfeed prices missing` lists models"


def _ledger_missing(status: Status) -> Iterator[str]:
    missing = sum(max(0, account.missing) for account in status.ledger.accounts.values())
    if status.ledger.consistent and missing:
        yield (
            f"the ledger does not balance: {counted(missing, 'event is', 'events are')} missing; "
            "`birdfeed ledger` lists likely causes"
        )


def _ledger_excess(status: Status) -> Iterator[str]:
    excess = sum(max(0, -account.missing) for account in status.ledger.accounts.values())
    if status.ledger.consistent and excess:
        yield (
            f"the ledger does not balance: {counted(excess, 'event')} more than were accepted; "
            "`birdfeed ledger` lists likely causes"
        )


def _redis_loses(status: Status) -> Iterable[str]:
    return status.redis.warnings


_BALANCE: Final = "The ledger does not balance"
_UNLIKELY_REDIS: Final = "Redis can lose events"
_FULL: Final = "Redis is full"
RULES: Final = (
    Rule("no_worker", "no worker showed a heartbeat for 60 s", "No worker runs", _no_worker, Health.DOWN),
    Rule("workers_restarting", "5 crashed in 10 minutes", "An event that kills workers", _restarting),
    Rule("redis_full", "98 % of maxmemory is used", _FULL, _full, blocks=True),
    Rule("redis_memory", "80 % of maxmemory is used", _FULL, _memory_runs_out),
    Rule("redis_can_lose_events", "it evicts, or keeps no append-only file", _UNLIKELY_REDIS, _redis_loses),
    Rule("replicas_missing", "too few are up to date", "Workers wait for replicas", _unreplicated, blocks=True),
    Rule("breaker_tripped", "a type is deferred", "A bad deploy", _tripped),
    Rule("breaker_off", "a breaker is turned off", "A bad deploy", _breaker_off, Health.HEALTHY),
    Rule("destination_paused", "it refuses every request", "Tinybird refuses the token", _paused),
    Rule("destination_backing_off", "it takes no rows at the moment", "Tinybird is down", _backing_off),
    Rule("token_refused", "a running worker's token is refused", "One host's token is refused", _refused),
    Rule("verification_impossible", "Tinybird can't say which rows it has", "Verification is impossible", _unanswered),
    Rule("schema_drift", "a column is missing or doesn't fit", "The schema has changed", _schema),
    Rule("late", "the oldest event has waited for 5 minutes, and nothing else explains it", "Events are late", _late),
    Rule("events_dropped", "any in the last hour", "Producers drop events", _dropped),
    Rule("spool_waits", "for 2 minutes, while Redis answers", "Events wait in a spool", _spooled),
    Rule("spool_orphaned", "no producer is running on its host", "Events wait in a spool", _orphaned_spool),
    Rule("dying_share", "1 % of 15 minutes' events, while any is dead", "Events keep dying", _dying),
    Rule("dead_growing", "100 in the last hour, while any is dead", "Events keep dying", _growing),
    Rule("unpriced_share", "5 % of the last hour's rows, of at least 100", "Rows without a price", _unpriced),
    Rule("ledger_missing", "any event, in a consistent look", _BALANCE, _ledger_missing),
    Rule("ledger_excess", "any event, in a consistent look", _BALANCE, _ledger_excess),
)
