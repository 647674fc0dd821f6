"""The console's first page: the data of `birdfeed status` and `birdfeed ledger`, as the template's values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.newest import newest
from birdfeed_worker.dead_letters.query import Choice
from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring.facts import Health, Status
from birdfeed_worker.monitoring.minutes import lost, read_minutes, total
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.redis_time import redis_time
from markupsafe import Markup
from redis import Redis

from birdfeed_cli.dead_letters.listing import Kind, group
from birdfeed_cli.report.charts import lines, stacked_bars
from birdfeed_cli.report.html import short

#: Numbers of hours that can be shown → minutes of each point in the plots.
HOURS: Final = {1: 1, 6: 5, 24: 20}
#: Newest dead letters that are grouped for the first page; and kinds of failure shown.
GROUPED: Final = 2_000
MOST_KINDS: Final = 10
#: Workers and producers listed one by one.
MOST_PROCESSES: Final = 20
PLOTTED: Final = ("accepted", "written", "dead", "dropped")


def overview(connection: Redis, keys: Keys, query: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the page shows for a URL's query (`hours`, one of HOURS); raises RedisError."""
    now = redis_time(connection)
    status = read_status(connection, keys, now)
    hours = next((known for known in HOURS if query.get("hours") == str(known)), 6)
    found = newest(connection, keys, Choice(), most=GROUPED, look_at=GROUPED)
    kinds = group(found.letters)
    return {
        "status": status,
        "health": Health(status.health).name.lower(),
        "at": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S}",
        "hours": hours,
        "all_hours": list(HOURS),
        **_plots(connection, keys, now, hours),
        "kinds": kinds[:MOST_KINDS],
        "more_kinds": len(kinds) - MOST_KINDS,
        "trends": trends(kinds, found.letters, now),
        "all_grouped": not found.after,
        "grouped": found.looked_at,
        "refused": {
            f"{source} {host}": workers[0].reason for (source, host), workers in by_host(status.refusals).items()
        },
        "workers": status.workers[:MOST_PROCESSES],
        "producers": status.producers[:MOST_PROCESSES],
        "more_workers": len(status.workers) - MOST_PROCESSES,
        "more_producers": len(status.producers) - MOST_PROCESSES,
        "accounts": accounts(status),
        "resumable": sorted(
            {*status.tripped, *(n for n, one in status.destinations.items() if one.state != "available")}
        ),
    }


def accounts(status: Status) -> list[tuple[str, Any]]:
    """The ledger's lines: each event type, and the total if there are several."""
    found = list(status.ledger.accounts.items())
    return found if len(found) == 1 else [*found, ("all", status.ledger.total)]


def trends(kinds: Sequence[Kind], letters: Sequence[tuple[Any, int]], now: float) -> dict[str, tuple[int, int]]:
    """Fingerprint → events that died in the last hour, and in the hour before, among these letters."""
    hour, before = (f"{datetime.fromtimestamp(now - back, UTC):%Y-%m-%dT%H:%M:%S}" for back in (3_600, 7_200))
    last, earlier = Counter[str](), Counter[str]()
    for letter, events in letters:
        if letter.last_failed_at >= hour:
            last[letter.fingerprint] += events
        elif letter.last_failed_at >= before:
            earlier[letter.fingerprint] += events
    return {kind.fingerprint: (last[kind.fingerprint], earlier[kind.fingerprint]) for kind in kinds}


def _plots(connection: Redis, keys: Keys, now: float, hours: int) -> dict[str, Any]:
    """Two plots: accepted and written, dead and dropped (without events left out by sampling); and all the sums."""
    each = HOURS[hours]
    # Periods aligned to the clock, the current one last.
    last = int(now // 60)
    first = (last // each + 1) * each - hours * 60
    minutes = read_minutes(connection, keys, now, last - first + 1)
    parts = [minutes[start : start + each] for start in range(0, len(minutes), each)]
    periods = [datetime.fromtimestamp((first + each * nth) * 60, UTC) for nth in range(len(parts))]
    counts = {kind: [float(total(part, kind)) for part in parts] for kind in PLOTTED}
    counts["dropped"] = [float(lost(part).total()) for part in parts]
    every = "minute" if each == 1 else f"{each} minutes"
    layers = {kind: (kind, values, f"var(--{kind})") for kind, values in counts.items()}
    # The current period is not complete: its point would look like a drop to 0.
    over = [(name, values[:-1], colour) for name, values, colour in (layers["accepted"], layers["written"])]
    flow = lines("Events accepted and written", periods, every, over, _count)
    loss = stacked_bars("Events dead and dropped", periods, every, [layers["dead"], layers["dropped"]], _count)
    return {
        "every": every,
        "sums": {kind: int(sum(values)) for kind, values in counts.items()},
        # Made only from numbers and the names above.
        "flow": Markup(flow),  # nosec B704
        "loss": Markup(loss),  # nosec B704
    }


def _count(value: float) -> str:
    return short(round(value))
