"""A worker's whole pipeline without its process: reserve, deliver to a store in memory, settle."""

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.monitoring.counters import Counters
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.tiers.lookup import NoTiers
from birdfeed_worker.tinybird.row_layout import RowLayouts
from redis import Redis

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import limiter_of, sender_of

EVERYTHING = {"jobs": 1_000, "events": 100_000, "size": 10**9}


def delivery_of(
    redis: Redis,
    keys: Keys,
    store: FakeStore,
    name: str = "w1",
    clock: Clock | None = None,
    layouts: RowLayouts | None = None,
) -> Delivery:
    """A worker's stages, wired as bootstrap.py does; marks are made in Redis. It queries the store immediately."""
    clock = clock or Clock()
    settler = Settler(redis, keys, name)
    sender = sender_of(store, limiter_of(redis, keys, name), clock, mark=settler.mark)
    enricher = Enricher(BookSource(), NoTiers(), extra_fields=frozenset(), keep_traceback=False)
    return Delivery(
        clock,
        enricher,
        Writer(store, sender, clock, WriteLimits(1_000, 10**6, settle_seconds=0.0)),
        settler,
        DeadLetterBreaker(redis, keys, clock, share=0.5, least=100),
        Counters(redis, keys, Meter(keys, "pool")),
        layouts,
    )


def reserve_all(redis: Redis, keys: Keys, name: str = "w1") -> list[ReservedJob]:
    """All waiting jobs."""
    return Reserver(redis, keys, name, 20).reserve(**EVERYTHING)
