"""Metrics: their names and meanings, in one place; docs/reference/metrics.md is made from them.

There are two kinds. Metrics of the *queue* are read from Redis at each scrape, and are the same from every launcher:
use one launcher's, or max(). Metrics of the *pool* are counted by the workers of one launcher, in a hash in Redis that
the launcher reads: use sum() over launchers. Redis is used instead of prometheus-client's files because workers come
and go: a killed worker leaves no half-written or stale files.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.client import Pipeline

from birdfeed_worker.queue.reply import as_text

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

#: Upper bounds of the histograms' buckets, in seconds.
BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Seconds for which a pool's counts are kept after its last heartbeat.
KEPT_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name, kind, labels, whether it is the queue's or a pool's, and its meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    scope: Literal["queue", "pool"]
    meaning: str


EVENTS = Metric(
    "birdfeed_events_total", "counter", ("event_type", "outcome"), "pool",
    "Events by their outcome in a delivery: written, dead, or deferred (they wait for the next try).",
)  # fmt: skip
JOBS = Metric("birdfeed_jobs_total", "counter", (), "pool", "Jobs delivered, including those that were deferred again.")
LOST = Metric(
    "birdfeed_jobs_lost_total", "counter", (), "pool",
    "Jobs whose lease this worker had lost when it settled them, because its heartbeat was late.",
)  # fmt: skip
DELIVERY_SECONDS = Metric(
    "birdfeed_delivery_seconds", "histogram", (), "pool", "From reserving jobs to settling them, including waits."
)
REQUESTS = Metric(
    "birdfeed_requests_total", "counter", ("datasource", "status"), "pool",
    "Requests that append rows, by HTTP status; 0: no answer.",
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "birdfeed_request_seconds", "histogram", ("datasource",), "pool", "How long Tinybird took to answer these requests."
)
REQUEST_BYTES = Metric(
    "birdfeed_request_bytes_total",
    "counter",
    ("datasource",),
    "pool",
    "Bytes of the requests' bodies, compressed.",
)
WORKERS = Metric("birdfeed_workers", "gauge", (), "pool", "Worker processes of this launcher that are alive.")
RESTARTS = Metric(
    "birdfeed_worker_ends_total",
    "counter",
    (),
    "pool",
    "Worker processes that exited by themselves and were replaced.",
)
BUILD = Metric(
    "birdfeed_build_info", "gauge", ("version", "python"), "pool", "1; the labels are this launcher's versions."
)  # fmt: skip
REDIS_UP = Metric("birdfeed_redis_up", "gauge", (), "pool", "1 if Redis answered in time for this page, 0 if not.")
REDIS_READ = Metric(
    "birdfeed_redis_read_seconds", "gauge", (), "pool", "How long it took to read all values from Redis the last time."
)
AGE = Metric(
    "birdfeed_values_age_seconds", "gauge", (), "pool",
    "Age of the values on this page that come from Redis; if it doesn't answer in time, the last known ones are shown.",
)  # fmt: skip
ACCEPTED = Metric(
    "birdfeed_events_accepted_total", "counter", ("event_type",), "queue",
    "Events accepted, including dropped ones; one enqueued twice, or replayed as another type, counts twice.",
)  # fmt: skip
WRITTEN = Metric("birdfeed_events_written_total", "counter", ("event_type",), "queue", "Events written to Tinybird.")
DIED = Metric(
    "birdfeed_events_dead_total", "counter", ("event_type", "reason"), "queue",
    "Events that became dead letters, counted each time; a replay doesn't lower it.",
)  # fmt: skip
DROPPED = Metric(
    "birdfeed_events_dropped_total", "counter", ("event_type", "reason"), "queue",
    "Events that producers dropped. They are lost, except for the reasons sampled and forgotten.",
)  # fmt: skip
PURGED = Metric(
    "birdfeed_events_purged_total", "counter", ("event_type", "reason"), "queue",
    "Events that were purged, by the reason for which they were dead (missing: written off). They are deleted.",
)  # fmt: skip
LEDGER = Metric(
    "birdfeed_ledger_events", "gauge", ("event_type", "state", "reason"), "queue",
    "Events by where they are: accepted, written, dead or dropped (by reason), purged, in_flight; missing should be 0.",
)  # fmt: skip
QUEUE_JOBS = Metric(
    "birdfeed_queue_jobs",
    "gauge",
    ("place",),
    "queue",
    "Jobs: queued, started (in flight in a worker), scheduled (deferred).",
)
LAG = Metric("birdfeed_lag_seconds", "gauge", (), "queue", "Age of the oldest job in flight; 0 where there is none.")
AVAILABLE = Metric(
    "birdfeed_destination_available",
    "gauge",
    ("datasource",),
    "queue",
    "1 if the data source takes rows, 0 if not.",
)
PAUSED = Metric(
    "birdfeed_destination_paused", "gauge", ("datasource",), "queue",
    "1 if the data source refuses every request (401, 403, 404, ...) until the cause is fixed.",
)  # fmt: skip
BREAKER = Metric(
    "birdfeed_circuit_breaker_tripped", "gauge", ("event_type",), "queue",
    "1 if the circuit breaker defers the type, because too many of its events fail; see `birdfeed resume`.",
)  # fmt: skip
DEAD_OLDEST = Metric(
    "birdfeed_dead_oldest_seconds", "gauge", ("reason",), "queue", "How long the oldest dead event has been dead."
)
DEAD_BYTES = Metric(
    "birdfeed_dead_bytes", "gauge", (), "queue", "Approximate bytes of Redis memory that dead letters take."
)
ROWS = Metric(
    "birdfeed_rows_total", "counter", ("cost_status",), "queue",
    "Rows written, by whether their cost is known: priced, estimated, partial, unpriced, no_usage, ...",
)  # fmt: skip
ALIVE = Metric("birdfeed_workers_alive", "gauge", (), "queue", "Worker processes alive on all hosts.")
WARNINGS = Metric(
    "birdfeed_redis_warnings",
    "gauge",
    (),
    "queue",
    "Ways in which this Redis can lose events; `birdfeed status` lists them.",
)
HEALTH = Metric(
    "birdfeed_health", "gauge", (), "queue", "0 healthy, 1 degraded, 3 down, as `birdfeed status` and its exit code."
)

PROBLEM = Metric(
    "birdfeed_problem", "gauge", ("rule",), "queue",
    "1 while the rule finds something; the runbook lists the rules, and has a section for each.",
)  # fmt: skip
REDIS_MEMORY = Metric(
    "birdfeed_redis_memory_bytes", "gauge", ("kind",), "queue",
    "Memory of Redis: used, and max (its maxmemory; 0: no limit). Absent where INFO is forbidden.",
)  # fmt: skip
REFUSED = Metric(
    "birdfeed_token_refused_workers", "gauge", ("datasource", "host"), "queue",
    "Running workers whose token the data source refuses.",
)  # fmt: skip
PRODUCERS = Metric("birdfeed_producers", "gauge", (), "queue", "Running processes that track events, on all hosts.")
SPOOLED = Metric(
    "birdfeed_spooled_events",
    "gauge",
    ("host",),
    "queue",
    "Events in a host's spool, whether or not a producer is running there.",
)
SPOOLED_BYTES = Metric("birdfeed_spooled_bytes", "gauge", ("host",), "queue", "Bytes that these events take on disk.")
SPOOLED_OLDEST = Metric(
    "birdfeed_spooled_oldest_seconds", "gauge", ("host",), "queue", "How long the oldest of these events has waited."
)
BUFFERED = Metric(
    "birdfeed_producer_buffered_events", "gauge", (), "queue", "Events in the memory of all running producers."
)
TIER_FAILURES = Metric(
    "birdfeed_tier_lookup_failures_total", "counter", ("reason",), "pool",
    "Users without a tier: error (the source failed), late (no answer in time), no_tier (the source has none).",
)  # fmt: skip

#: All of the above.
METRICS: Final = tuple(one for one in list(vars().values()) if isinstance(one, Metric))


class Meter:
    """Counts for one worker process, which are added to its pool's hash from time to time.

    Args:
        pool: The launcher's name (see presence.pool_name).
    """

    def __init__(self, keys: Keys, pool: str) -> None:
        self._key = pool_key(keys, pool)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # requests are counted by the threads that send them

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Increase a counter."""
        with self._lock:
            self._counts[_field(metric, labels)] += amount  # type: ignore[assignment]

    def observe(self, metric: Metric, *labels: str, seconds: float) -> None:
        """Add a value to a histogram."""
        bucket = next((bound for bound in BUCKETS if seconds <= bound), None)
        with self._lock:
            if bucket is not None:
                self._counts[_field(metric, labels, str(bucket))] += 1
            self._counts[_field(metric, labels, "count")] += 1
            self._counts[_field(metric, labels, "sum")] += seconds  # type: ignore[assignment]

    def send(self, pipe: Pipeline) -> None:
        """Put what was counted since the last time into a pipeline."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for name, amount in counts.items():
            pipe.hincrbyfloat(self._key, name, amount)
        if counts:
            pipe.expire(self._key, KEPT_SECONDS)


def pool_key(keys: Keys, pool: str) -> str:
    """The hash of a pool's counts."""
    return keys.birdfeed(f"metrics:{pool}")


def read_pool(connection: Redis, keys: Keys, pool: str) -> dict[tuple[str, ...], float]:
    """A pool's counts: (metric's name, its labels, and for histograms a bucket's bound, `count` or `sum`) → value."""
    key = pool_key(keys, pool)
    found = connection.hgetall(key)
    connection.expire(key, KEPT_SECONDS)
    return {tuple(orjson.loads(as_text(name))): float(value) for name, value in found.items()}


def _field(metric: Metric, labels: tuple[str, ...], *more: str) -> str:
    assert len(labels) == len(metric.labels), metric.name
    return orjson.dumps([metric.name, *labels, *more]).decode()
