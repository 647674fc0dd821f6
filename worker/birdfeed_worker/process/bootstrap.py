"""Wires the objects of one worker process. Nothing else in the worker connects, reads settings or makes clients."""

from collections.abc import Sequence

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.retention import Caps, Sweeper
from birdfeed_worker.flow.circuit_breaker import Guard
from birdfeed_worker.flow.rate_limit import Limits, Pacer
from birdfeed_worker.monitoring.counters import Sampler, Tally
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.send import SHORT_WAIT, Sender
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.process.heartbeat import Hold
from birdfeed_worker.process.launcher import pool_of
from birdfeed_worker.process.loop import Worker
from birdfeed_worker.process.maintenance import Upkeep
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.reserve import Keeper, Taker
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of, metered_tinybird_of, tiers_of

SECONDS_A_DAY = 86_400.0
#: A row is about twice its event. A little more, so that the last rows of a take don't need one request more.
ROW_GROWTH = 2.2


def keys_of(settings: WorkerSettings) -> Keys:
    """Names of the keys under the settings' prefix and queue."""
    return Keys(settings.key_prefix, settings.queue)


def make_worker(settings: WorkerSettings, name: str, clock: Clock | None = None, beat_fd: int | None = None) -> Worker:
    """A worker ready to work; raises ConfigurationError, and nothing is written to Redis yet."""
    clock = clock or Clock()
    keys = keys_of(settings)
    connection = connect(settings.redis_url_text)
    meter = Meter(keys, pool_of(name))
    settler = Settler(connection, keys, name, settings.wait_replicas)
    enricher = Enricher(
        book_source_of(settings),
        tiers_of(settings, connection),
        extra_fields=settings.allowed_extra,
        keep_traceback=settings.keep_traceback,
    )
    keeper = Keeper(connect(settings.redis_url_text, tries=3), keys, name, settings.hold_seconds)
    hold = Hold(keeper, settings.hold_seconds / 5, beat_fd)

    def mark(execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        hold.step()
        return settler.mark(execution, job_ids, clock.time())

    tinybird = metered_tinybird_of(settings, meter)
    sender = Sender(
        tinybird,
        pacer_of(settings, connection, name),
        clock,
        bisect_requests=settings.bisect_requests,
        settle_seconds=settings.settle_seconds,
        mark=mark,
    )
    limits = WriteLimits(
        settings.request_rows,
        settings.request_bytes,
        settings.requests_at_once,
        settings.settle_seconds,
        settings.give_up_after,
    )
    return Worker(
        connection,
        keys,
        name,
        taker=Taker(connection, keys, name, settings.hold_seconds),
        hold=hold,
        delivery=Delivery(
            clock,
            enricher,
            Writer(tinybird, sender, clock, limits, hold.step),
            settler,
            Guard(connection, keys, clock, share=settings.guard_share, least=settings.guard_events),
            Tally(connection, keys, meter),
        ),
        upkeep=Upkeep(
            Sweeper(connection, keys, name, Caps(settings.dead_bytes, settings.dead_days * SECONDS_A_DAY), clock),
            Sampler(connection, keys, clock),
            clock,
        ),
        clock=clock,
        take_jobs=settings.take_jobs,
        take_events=settings.request_rows * settings.requests_at_once,
        take_bytes=take_bytes(settings),
    )


def take_bytes(settings: WorkerSettings) -> int:
    """Bytes of events whose rows fill the requests that go at once, and that the pool's rate lets go without delay."""
    rows = min(settings.request_bytes * settings.requests_at_once, settings.bytes_per_second * SHORT_WAIT)
    return int(rows / ROW_GROWTH)


def pacer_of(settings: WorkerSettings, connection: Redis, name: str) -> Pacer:
    """The pool's limiter."""
    limits = Limits(
        settings.requests_per_second,
        settings.bytes_per_second,
        settings.retry_base,
        settings.retry_cap,
        probe_seconds=settings.connect_timeout + settings.read_timeout,
    )
    return Pacer(connection, keys_of(settings), name, limits)
