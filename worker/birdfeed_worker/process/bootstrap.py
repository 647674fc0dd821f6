"""Create and connect the objects of one worker process. No other module of a worker reads settings or makes clients."""

import socket
from collections.abc import Sequence
from functools import partial

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.retention import Caps, Retention
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.flow.rate_limit import Limits, RateLimiter
from birdfeed_worker.flow.refusals import Refusals
from birdfeed_worker.flow.verification import Verification
from birdfeed_worker.monitoring.counters import Counters, Sampler
from birdfeed_worker.monitoring.metered import MeteredTinybird
from birdfeed_worker.monitoring.metrics import TIER_FAILURES, Meter
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.send import SHORT_WAIT, Sender
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.process.heartbeat import Heartbeat
from birdfeed_worker.process.loop import Worker
from birdfeed_worker.process.maintenance import Maintenance
from birdfeed_worker.process.presence import Presence, pool_of
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.redis_time import RedisTime
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.row_layout import RowLayouts
from birdfeed_worker.tinybird.schema_check import may_append
from birdfeed_worker.wiring import book_source_of, tiers_of, tinybird_of

SECONDS_A_DAY = 86_400.0
#: A row is about twice as large as its event. A little more, so that a reservation's last rows need no extra request.
ROW_GROWTH = 2.2


def keys_of(settings: WorkerSettings) -> Keys:
    """Names of the keys under the settings' prefix and queue."""
    return Keys(settings.key_prefix, settings.queue)


def make_worker(settings: WorkerSettings, name: str, clock: Clock | None = None, beat_fd: int | None = None) -> Worker:
    """A worker that is ready to run; nothing is written to Redis yet. Raises ConfigurationError."""
    redis_time = RedisTime()
    clock = clock or Clock(time=redis_time.time)
    keys = keys_of(settings)
    connection = connect(settings.redis_url_text)
    # It gives up quickly, because the next heartbeat comes soon.
    beat_connection = connect(settings.redis_url_text, tries=3)
    presence = Presence(beat_connection, keys, name, redis_time)
    meter = Meter(keys, pool_of(name))
    settler = Settler(connection, keys, name, settings.wait_replicas)
    enricher = Enricher(
        book_source_of(settings),
        tiers_of(settings, connection, lambda reason, users: meter.add(TIER_FAILURES, reason, amount=users)),
        extra_fields=settings.allowed_extra,
        keep_traceback=settings.keep_traceback,
    )
    renewer = Reserver(beat_connection, keys, name, settings.lease_seconds)
    heartbeat = Heartbeat(renewer, presence, settings.lease_seconds / 5, beat_fd)

    def mark(execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        heartbeat.step()
        return settler.mark(execution, job_ids)

    host = socket.gethostname()
    tinybird = tinybird_of(settings, partial(MeteredTinybird, meter=meter))
    refusals = Refusals(connection, keys, name, host, clock, settings.retry_base, probe=partial(may_append, tinybird))
    sender = Sender(
        tinybird,
        limiter_of(settings, connection, name),
        clock,
        bisect_requests=settings.bisect_requests,
        settle_seconds=settings.settle_seconds,
        mark=mark,
        refusals=refusals,
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
        reserver=Reserver(connection, keys, name, settings.lease_seconds),
        heartbeat=heartbeat,
        presence=presence,
        delivery=Delivery(
            clock,
            enricher,
            Writer(
                tinybird,
                sender,
                clock,
                limits,
                heartbeat.step,
                Verification(connection, keys, host, clock),
            ),
            settler,
            DeadLetterBreaker(connection, keys, clock, share=settings.breaker_share, least=settings.breaker_events),
            Counters(connection, keys, meter, clock),
            RowLayouts(tinybird, clock),
        ),
        maintenance=Maintenance(
            Retention(connection, keys, name, Caps(settings.dead_bytes, settings.dead_days * SECONDS_A_DAY), clock),
            Sampler(connection, keys, clock),
            clock,
        ),
        clock=clock,
        stopped=refusals.stopped,
        reserve_jobs=settings.reserve_jobs,
        reserve_events=settings.request_rows * settings.requests_at_once,
        reserve_bytes=reserve_bytes(settings),
    )


def reserve_bytes(settings: WorkerSettings) -> int:
    """Bytes of events whose rows fill the concurrent requests, but no more than the pool's byte rate allows at once."""
    rows = min(settings.request_bytes * settings.requests_at_once, settings.bytes_per_second * SHORT_WAIT)
    return int(rows / ROW_GROWTH)


def limiter_of(settings: WorkerSettings, connection: Redis, name: str) -> RateLimiter:
    """The pool's rate limiter."""
    limits = Limits(
        settings.requests_per_second,
        settings.bytes_per_second,
        settings.retry_base,
        settings.retry_cap,
        probe_seconds=settings.connect_timeout + settings.read_timeout,
    )
    return RateLimiter(connection, keys_of(settings), name, limits)
