"""Metrics in Prometheus's text format.

Labels are bounded: of values that clients may invent (types, reasons, hosts), those beyond a limit share the label
`other`.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Final, get_args

from birdfeed_schemas.enrichment import CostStatus
from birdfeed_schemas.registry import registry
from birdfeed_schemas.safety.untrusted import label
from birdfeed_schemas.wire.keys import SILENT_SECONDS, Keys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from redis import Redis

from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring import metrics
from birdfeed_worker.monitoring.facts import Status
from birdfeed_worker.monitoring.metrics import BUCKETS, Metric
from birdfeed_worker.monitoring.minutes import DEAD_REASONS, DROP_REASONS, OTHER, known_reason, known_type
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.monitoring.verdict import RULES
from birdfeed_worker.queue.redis_time import redis_time

#: Labels → value.
Values = Mapping[tuple[str, ...], float]

#: Hosts with their own label.
MOST_HOSTS: Final = 50
#: The reason under which missing events are purged (`birdfeed ledger --write-off`).
WRITTEN_OFF: Final = "missing"
#: HTTP statuses whose counters are exposed as 0 from the start; "0" means no answer.
STATUSES: Final = ("0", "200", "400", "401", "403", "404", "413", "422", "429", "500", "503")


def expose(*parts: Iterable[tuple[Metric, Values]]) -> bytes:
    """These metrics in Prometheus's text format."""

    class Parts(Collector):
        def collect(self) -> Iterator[Family]:
            for part in parts:
                for metric, values in part:
                    yield family(metric, values)

    registry = CollectorRegistry()
    registry.register(Parts())
    return generate_latest(registry)


def family(metric: Metric, values: Values) -> Family:
    """One metric with its values; a histogram's have one more label: a bucket's bound, `count` or `sum`."""
    name = metric.name.removesuffix("_total")
    if metric.kind == "histogram":
        return _histogram(metric, values)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(values.items()):
        made.add_metric([label(one) for one in labels], value)
    return made


def _histogram(metric: Metric, values: Values) -> Family:
    made = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels in sorted({labels[:-1] for labels in values}):
        reached, buckets = 0.0, []
        for bound in BUCKETS:
            reached += values.get((*labels, str(bound)), 0)
            buckets.append((str(bound), reached))
        buckets.append(("+Inf", values.get((*labels, "count"), 0)))
        made.add_metric(labels, buckets, sum_value=values.get((*labels, "sum"), 0))
    return made


def of_queue(connection: Redis, keys: Keys) -> Iterator[tuple[Metric, Values]]:
    """The queue's metrics, read now."""
    yield from of_status(read_status(connection, keys, redis_time(connection)))


def of_status(status: Status) -> Iterator[tuple[Metric, Values]]:
    """The queue's metrics from what `birdfeed status` shows. Pure."""
    yield from _totals(status)
    yield metrics.LEDGER, _ledger(status)
    yield metrics.QUEUE_JOBS, {(place,): getattr(status.depth, place) for place in ("queued", "started", "scheduled")}
    yield metrics.LAG, {(): status.lag or 0.0}
    yield metrics.AVAILABLE, {(name,): float(one.state == "available") for name, one in status.destinations.items()}
    yield metrics.PAUSED, {(name,): float(one.state == "paused") for name, one in status.destinations.items()}
    breakers: dict[tuple[str, ...], float] = {(name,): 0.0 for name in (*registry(), OTHER)}
    yield metrics.BREAKER, breakers | {(known_type(name),): 1.0 for name in status.tripped}
    yield metrics.DEAD_OLDEST, {(name,): one.oldest for name, one in status.dead.items() if one.oldest is not None}
    yield metrics.DEAD_BYTES, {(): float(status.dead_bytes or 0)}
    rows: dict[tuple[str, ...], float] = {(name,): 0.0 for name in get_args(CostStatus)}
    yield metrics.ROWS, rows | {(name,): float(amount) for name, amount in status.costs.items()}
    yield metrics.ALIVE, {(): float(sum(one.silent < SILENT_SECONDS for one in status.workers))}
    yield metrics.WARNINGS, {(): float(len(status.redis.warnings))}
    yield metrics.HEALTH, {(): float(status.health)}
    found = {finding.rule.name for finding in status.findings}
    yield metrics.PROBLEM, {(rule.name,): float(rule.name in found) for rule in RULES}
    memory = {"used": status.redis.memory_used, "max": status.redis.memory_max}
    yield metrics.REDIS_MEMORY, {(kind,): float(size) for kind, size in memory.items() if size is not None}
    name_of = _hosts({host: len(workers) for (_, host), workers in by_host(status.refusals).items()})
    refused = Counter[tuple[str, ...]]()
    for (datasource, host), workers in by_host(status.refusals).items():
        refused[datasource, name_of(host)] += len(workers)
    yield metrics.REFUSED, {labels: float(workers) for labels, workers in refused.items()}
    yield metrics.PRODUCERS, {(): float(len(status.producers))}
    yield metrics.BUFFERED, {(): float(sum(one.buffered for one in status.producers))}
    name_of = _hosts({spool.host: spool.events for spool in status.spools})
    events, size, oldest = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), dict[tuple[str, ...], float]()
    for spool in status.spools:
        labels: tuple[str, ...] = (name_of(spool.host),)
        events[labels] += spool.events
        size[labels] += spool.bytes
        oldest[labels] = max(oldest.get(labels, 0.0), spool.oldest)
    yield metrics.SPOOLED, {labels: float(amount) for labels, amount in events.items()}
    yield metrics.SPOOLED_BYTES, {labels: float(amount) for labels, amount in size.items()}
    yield metrics.SPOOLED_OLDEST, oldest


def _hosts(sizes: Mapping[str, int]) -> Callable[[str], str]:
    """Host → label: the MOST_HOSTS largest keep their names, the others share one."""
    told_apart = {host for host, _ in Counter(sizes).most_common(MOST_HOSTS)}
    return lambda host: host if host in told_apart else OTHER


def _totals(status: Status) -> Iterator[tuple[Metric, Values]]:
    """The counters of events; every known label is present, at least with 0."""
    types = (*sorted(registry()), OTHER)
    dead, dropped = (*sorted(DEAD_REASONS), OTHER), (*sorted(DROP_REASONS), OTHER)
    for kind, metric, reasons in (
        ("accepted", metrics.ACCEPTED, None),
        ("written", metrics.WRITTEN, None),
        ("dead", metrics.DIED, dead),
        ("dropped", metrics.DROPPED, dropped),
        ("purged", metrics.PURGED, (*dead, WRITTEN_OFF)),
    ):
        values = Counter[tuple[str, ...]](dict.fromkeys(product(types, reasons) if reasons else product(types), 0))
        for (found, event_type, reason), events in status.ledger.totals.items():
            if found == kind:
                known = reason if reasons and reason in reasons else known_reason(reason)
                values[(known_type(event_type), known) if reasons else (known_type(event_type),)] += events
        yield metric, {labels: float(events) for labels, events in values.items()}


def _ledger(status: Status) -> Mapping[tuple[str, ...], float]:
    """The ledger by type, state and reason; all unregistered types share one label."""
    values = Counter[tuple[str, ...]]()
    for name, account in status.ledger.accounts.items():
        known = known_type(name)
        for state in ("accepted", "written", "purged", "in_flight", "missing"):
            values[known, state, ""] += getattr(account, state)
        for state, reasons in (("dead", account.dead), ("dropped", account.dropped)):
            for reason, events in reasons.items():
                values[known, state, reason] += events
    return values


def of_pool(counts: Mapping[tuple[str, ...], float], *, workers: int, ends: int) -> Iterator[tuple[Metric, Values]]:
    """A pool's metrics, from its workers' counts and the launcher's own."""
    yield metrics.BUILD, {(_version(), platform.python_version()): 1.0}
    yield metrics.WORKERS, {(): float(workers)}
    yield metrics.RESTARTS, {(): float(ends)}
    for metric, values in _from_the_start().items():
        for (name, *labels), value in counts.items():
            if name == metric.name:
                values[tuple(labels)] = value
        yield metric, values


def of_reading(*, up: bool, seconds: float | None, age: float | None) -> Iterator[tuple[Metric, Values]]:
    """Metrics about reading Redis: whether it answered, how long that took, and how old the values are (seconds)."""
    yield metrics.REDIS_UP, {(): float(up)}
    yield metrics.REDIS_READ, {} if seconds is None else {(): seconds}
    yield metrics.AGE, {} if age is None else {(): age}


def _from_the_start() -> dict[Metric, dict[tuple[str, ...], float]]:
    """The metrics that a pool's workers count, with 0 for every known label."""
    types, datasources = (*registry(), OTHER), {one.datasource for one in registry().values()}
    labels: dict[Metric, Iterable[tuple[str, ...]]] = {
        metrics.EVENTS: product(types, ("written", "dead", "deferred")),
        metrics.JOBS: [()],
        metrics.LOST: [()],
        metrics.DELIVERY_SECONDS: product(("count", "sum")),
        metrics.REQUESTS: product(datasources, STATUSES),
        metrics.REQUEST_SECONDS: product(datasources, ("count", "sum")),
        metrics.REQUEST_BYTES: product(datasources),
        metrics.TIER_FAILURES: product(("error", "late", "no_tier")),
    }
    return {metric: dict.fromkeys(known, 0.0) for metric, known in labels.items()}


def _version() -> str:
    try:
        return version("birdfeed")
    except PackageNotFoundError:
        return ""
