"""Expose: metrics in Prometheus's text format."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from birdfeed_schemas.safety.untrusted import label
from birdfeed_schemas.wire.keys import Keys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from redis import Redis

from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring import metrics
from birdfeed_worker.monitoring.facts import Status
from birdfeed_worker.monitoring.metrics import BUCKETS, METRICS, Metric
from birdfeed_worker.monitoring.minutes import known_type
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.monitoring.verdict import RULES, SILENT_SECONDS
from birdfeed_worker.queue.redis_time import redis_time

#: Values by labels.
Values = Mapping[tuple[str, ...], float]


def expose(*parts: Iterable[tuple[Metric, Values]]) -> bytes:
    """Prometheus's text for these metrics."""

    class Parts(Collector):
        def collect(self) -> Iterator[Family]:
            for part in parts:
                for metric, values in part:
                    yield family(metric, values)

    registry = CollectorRegistry()
    registry.register(Parts())
    return generate_latest(registry)


def family(metric: Metric, values: Values) -> Family:
    """One metric with its values; a histogram's have one label more: a bucket's bound, `count` or `sum`."""
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
    yield metrics.LEDGER, _ledger(status)
    depth = status.depth
    places = {"queued": depth.queued, "started": depth.started, "scheduled": depth.scheduled}
    yield metrics.QUEUE_JOBS, {(place,): jobs for place, jobs in places.items()}
    yield metrics.LAG, {(): status.lag or 0.0}
    yield metrics.AVAILABLE, {(name,): float(one.state == "available") for name, one in status.destinations.items()}
    yield metrics.PAUSED, {(name,): float(one.state == "paused") for name, one in status.destinations.items()}
    yield metrics.BREAKER, {(known_type(name),): 1.0 for name in status.tripped}
    yield metrics.DEAD_OLDEST, {(name,): one.oldest for name, one in status.dead.items() if one.oldest is not None}
    yield metrics.DEAD_BYTES, {(): float(status.dead_bytes or 0)}
    yield metrics.ROWS, {(name,): float(rows) for name, rows in status.costs.items()}
    yield metrics.ALIVE, {(): float(sum(one.silent < SILENT_SECONDS for one in status.workers))}
    yield metrics.WARNINGS, {(): float(len(status.redis.warnings))}
    yield metrics.HEALTH, {(): float(status.health)}
    found = {finding.rule.name for finding in status.findings}
    yield metrics.PROBLEM, {(rule.name,): float(rule.name in found) for rule in RULES}
    memory = {"used": status.redis.memory_used, "max": status.redis.memory_max}
    yield metrics.REDIS_MEMORY, {(kind,): float(size) for kind, size in memory.items() if size is not None}
    yield metrics.REFUSED, {key: float(len(workers)) for key, workers in by_host(status.refusals).items()}
    yield metrics.PRODUCERS, {(): float(len(status.producers))}
    yield metrics.SPOOLED, {(spool.host,): float(spool.events) for spool in status.spools}


def _ledger(status: Status) -> Mapping[tuple[str, ...], float]:
    """The ledger by type, state and reason; all types that no package registered are one, however many there are."""
    values = Counter[tuple[str, ...]]()
    for name, labels, amount in _entries(status):
        values[known_type(name), *labels] += amount
    return values


def _entries(status: Status) -> Iterator[tuple[str, tuple[str, str], int]]:
    for name, account in status.ledger.accounts.items():
        for state in ("accepted", "written", "purged", "in_flight", "missing"):
            yield name, (state, ""), getattr(account, state)
        for reason, events in account.dead.items():
            yield name, ("dead", reason), events
        for reason, events in account.dropped.items():
            yield name, ("dropped", reason), events


def of_pool(counts: Mapping[tuple[str, ...], float], *, workers: int, ends: int) -> Iterator[tuple[Metric, Values]]:
    """A pool's metrics, from its workers' counts and the launcher's own."""
    yield metrics.WORKERS, {(): float(workers)}
    yield metrics.RESTARTS, {(): float(ends)}
    for metric in METRICS:
        if metric.scope == "pool" and metric not in (metrics.WORKERS, metrics.RESTARTS):
            yield metric, {tuple(rest): value for (name, *rest), value in counts.items() if name == metric.name}
