"""`birdfeed status`: the health of everything on one screen."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.flow.destinations import Destination
from birdfeed_worker.monitoring.facts import Health, Status, WorkerState
from birdfeed_worker.monitoring.minutes import INTENDED
from birdfeed_worker.monitoring.producers import HostSpool, Producer
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.redis_time import redis_time
from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from birdfeed_cli.common.console import BAD_BADGE, GOOD_BADGE, NOTE, WARN_BADGE, out, print_json
from birdfeed_cli.common.errors import Unreachable
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.time_spans import age
from birdfeed_cli.common.watch import watched
from birdfeed_cli.operate.ledger import account_json

#: Health → words and style.
VERDICTS = {
    Health.HEALTHY: ("healthy", GOOD_BADGE),
    Health.DEGRADED: ("degraded", WARN_BADGE),
    Health.DOWN: ("down", BAD_BADGE),
}
#: Seconds for each answer of Redis, so that a Redis that hangs is reported within three, including the program's start.
ANSWER_SECONDS: Final = 1.5
#: Workers shown one by one.
MOST_WORKERS = 8
#: Hosts of producers shown one by one.
MOST_HOSTS: Final = 8


def run_status(*, as_json: bool, watch: bool) -> int:
    """Print it. Exit codes: 0 healthy, 1 degraded, 3 down (no worker runs, or Redis can't be reached)."""
    try:
        connection, keys = open_redis(tries=0, timeout=ANSWER_SECONDS)

        def look() -> tuple[Status, dict[str, Any] | None]:
            return read_status(connection, keys, redis_time(connection)), spool_of_this_host()

        if watch:
            return watched(lambda: view(*look()), as_json=as_json)
        status, spool = look()
    except (Unreachable, RedisError) as error:
        if as_json:
            problem = str(error) if isinstance(error, WrongKindError) else "Redis can't be reached"
            print_json({"health": "down", "problems": [problem]})
        raise
    if as_json:
        print_json(describe(status, spool))
    else:
        out.print(view(status, spool))
    return int(status.health)


def spool_of_this_host() -> dict[str, Any] | None:
    """What this host's spool for this Redis holds; None if there is none. Never raises."""
    try:
        spool = Spool.of(ProducerSettings.with_dotenv().options())
        if not spool.exists():
            return None
        with closing(spool):
            totals = spool.totals()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"events": totals.events, "bytes": totals.bytes, "reports": totals.reports}


def view(status: Status, spool: dict[str, Any] | None) -> RenderableType:
    """The screen, at 80 columns."""
    word, style = VERDICTS[status.health]
    unproven = status.health is Health.HEALTHY and status.nothing_written
    parts: list[RenderableType] = [
        Text.assemble("birdfeed is ", (word, style), ", but has not written any events yet" if unproven else "")
    ]
    parts += [
        Text.assemble(("! ", "bold"), one.message, (f" → runbook: {one.rule.section}", NOTE)) for one in status.findings
    ]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(status, spool):
        table.add_row(name, value)
    return Group(*parts, Text(""), table)


def _lines(status: Status, spool: dict[str, Any] | None) -> list[tuple[str, RenderableType]]:
    total = status.ledger.total
    lines: list[tuple[str, RenderableType]] = [
        ("queue", _queue(status)),
        ("rates", _rates(status)),
        ("workers", _workers(status.workers)),
    ]
    lines += [(name, _destination(state, status.now)) for name, state in status.destinations.items()]
    if status.disabled:
        lines.append(("breaker", _breaker(status.disabled)))
    lines.append(("dead", _dead(status)))
    lines.append(("producers", _producers(status.producers)))
    if status.spools:
        lines.append(("spools", _spools(status.spools)))
    if spool is not None:
        lines.append(("spool here", _spool(spool)))
    lines.append(("redis", _redis(status)))
    unpriced = "no rows yet" if status.unpriced is None else f"{status.unpriced:.1%} of rows unpriced"
    lines.append(("prices", Text(unpriced)))
    balance = "" if status.ledger.consistent else "; it changes too fast for a verdict"
    lines.append(
        (
            "ledger",
            Text(
                f"{total.accepted:,} accepted = {total.written:,} written + {sum(total.dead.values()):,} dead + "
                f"{sum(total.dropped.values()):,} dropped + {total.purged:,} purged + {total.in_flight:,} in flight"
                + (f"; {total.missing:,} MISSING" if total.missing else "")
                + balance
            ),
        )
    )
    return lines


def _queue(status: Status) -> Text:
    depth = status.depth
    text = (
        f"{counted(depth.queued, 'job waits', 'jobs wait')}, {depth.started:,} in flight, {depth.scheduled:,} scheduled"
    )
    if depth.scheduled and status.next_due is not None:
        text += f" (next in {age(status.next_due)})"
    if status.lag is not None:
        text += f"; the oldest is {age(status.lag)} old"
    return Text(text)


def _rates(status: Status) -> Text:
    if status.rates is None:
        return Text("not known yet (workers record them every 10 s)")
    rates = status.rates
    return Text(
        f"{rates.accepted:,.1f} events/s in, {rates.written:,.1f} written, {rates.dead:,.1f} dead "
        f"(last {age(rates.seconds)})"
    )


def _workers(workers: "list[WorkerState] | Any") -> RenderableType:
    if not workers:
        return Text("none")
    shown = [
        Text(
            f"{one.host} {one.pid}: {one.state}"
            + (f", {counted(one.in_flight, 'job')} in flight" if one.in_flight else "")
            + f", {one.done:,} done"
            + (f", silent for {age(one.silent)}" if one.silent > 30 else "")
        )
        for one in workers[:MOST_WORKERS]
    ]
    if len(workers) > MOST_WORKERS:
        busy = sum(1 for one in workers[MOST_WORKERS:] if one.state == "busy")
        shown.append(Text(f"and {len(workers) - MOST_WORKERS} more, {busy} of them busy"))
    return Group(*shown)


def _producers(producers: Sequence[Producer]) -> RenderableType:
    """Producers by host, those with the most processes first."""
    if not producers:
        return Text("none shows a heartbeat")
    hosts: dict[str, list[Producer]] = {}
    for one in producers:
        hosts.setdefault(one.host, []).append(one)
    shown = []
    for host, some in sorted(hosts.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:MOST_HOSTS]:
        dropped = sum(events for one in some for reason, events in one.dropped.items() if reason not in INTENDED)
        shown.append(
            Text(
                f"{host}: {counted(len(some), 'process', 'processes')}, "
                f"{counted(sum(one.buffered for one in some), 'event')} in memory"
                + (f", {dropped:,} dropped" if dropped else "")
            )
        )
    if len(hosts) > MOST_HOSTS:
        more = counted(len(hosts) - MOST_HOSTS, "more host")
        shown.append(Text(f"and {more}; {counted(len(producers), 'process', 'processes')} on all hosts together"))
    return Group(*shown)


def _spools(spools: Sequence[HostSpool]) -> RenderableType:
    """Spools by host, the fullest first."""
    shown = [
        Text(
            f"{one.host}: {counted(one.events, 'event')}, {one.bytes / 1e6:.1f} MB, the oldest {age(one.oldest)} old"
            + ("" if one.producers else "; no producer runs there")
        )
        for one in sorted(spools, key=lambda one: -one.events)[:MOST_HOSTS]
    ]
    if len(spools) > MOST_HOSTS:
        shown.append(Text(f"and those of {counted(len(spools) - MOST_HOSTS, 'more host')}"))
    return Group(*shown)


def _destination(state: Destination, now: float) -> Text:
    last = "nothing written yet" if state.last_success is None else f"last write {age(now - state.last_success)} ago"
    if state.state == "available":
        return Text(f"available, {last}")
    style = BAD_BADGE if state.state == "paused" else WARN_BADGE
    wait = f"next try in {age(state.until - now)}" if state.until > now else "trying now"
    since = f" for {age(now - state.since)}" if state.since is not None else ""
    return Text.assemble((state.state.replace("_", " "), style), f"{since}: {state.reason}; {wait}; {last}")


def _breaker(off: Mapping[str, float]) -> RenderableType:
    times = {name: datetime.fromtimestamp(until, UTC) for name, until in off.items()}
    return Group(*(Text(f"off for {name} until {at:%H:%M} UTC", style=NOTE) for name, at in times.items()))


def _dead(status: Status) -> RenderableType:
    if not status.dead:
        return Text("none")
    shown = [
        Text(f"{one.events:,} {reason}" + (f", the oldest {age(one.oldest)} ago" if one.oldest is not None else ""))
        for reason, one in sorted(status.dead.items(), key=lambda pair: -pair[1].events)
    ]
    if status.dead_bytes:
        size = (
            f"{status.dead_bytes / 1e6:,.1f} MB" if status.dead_bytes >= 1e6 else f"{status.dead_bytes / 1e3:,.0f} kB"
        )
        shown.append(Text(f"about {size} of Redis in all"))
    return Group(*shown)


def _redis(status: Status) -> Text:
    used, most = status.redis.memory_used, status.redis.memory_max
    if used is None:
        return Text("its memory is not known (INFO is forbidden)")
    return Text(f"{used / 1e6:,.0f} MB used" + (f" of {most / 1e6:,.0f}" if most else ", without a limit"))


def _spool(spool: dict[str, Any]) -> Text:
    if "error" in spool:
        return Text(f"can't be read: {spool['error']}", style=NOTE)
    return Text(f"{counted(spool['events'], 'event')} ({spool['bytes'] / 1e6:.1f} MB) on disk, waiting for Redis")


def describe(status: Status, spool: dict[str, Any] | None) -> dict[str, Any]:
    """The status for JSON output. Times are seconds from now."""
    return {
        "health": status.health.name.lower(),
        "problems": list(status.problems),
        "findings": [
            {"rule": one.rule.name, "problem": one.message, "runbook": one.rule.section} for one in status.findings
        ],
        "redis": {"memory_used": status.redis.memory_used, "memory_max": status.redis.memory_max},
        "queue": {**asdict(status.depth), "lag_seconds": status.lag, "next_due_seconds": status.next_due},
        "rates": None if status.rates is None else asdict(status.rates),
        "workers": list(map(asdict, status.workers)),
        "destinations": {
            name: {
                "state": state.state,
                "reason": state.reason,
                "next_try_seconds": max(0.0, state.until - status.now) if state.until else None,
                "failures": state.failures,
                "last_write_seconds_ago": None if state.last_success is None else status.now - state.last_success,
            }
            for name, state in status.destinations.items()
        },
        "tripped": {
            name: {"reason": why.reason, "dead": why.dead, "seen": why.seen, "seconds": status.now - why.since}
            for name, why in status.tripped.items()
        },
        "breaker_off": {name: {"seconds": until - status.now} for name, until in status.disabled.items()},
        "dead": {reason: {"events": one.events, "oldest_seconds": one.oldest} for reason, one in status.dead.items()},
        "dead_bytes": status.dead_bytes,
        "producers": list(map(asdict, status.producers)),
        "spools": list(map(asdict, status.spools)),
        "spool": spool,
        "unpriced_share": status.unpriced,
        "cost_status": dict(status.costs),
        "ledger": {**account_json(status.ledger.total), "balanced": status.ledger.balanced},
    }
