"""Counters besides the ledger's, for `birdfeed status` and the metrics; nothing else depends on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.model import Counted, Dead, Written
from birdfeed_worker.monitoring.metrics import DELIVERY_SECONDS, EVENTS, JOBS, LOST, Meter
from birdfeed_worker.monitoring.minutes import MinuteCounts, count_changes, known_type
from birdfeed_worker.monitoring.producers import remember_spools
from birdfeed_worker.queue.reply import as_text, whole
from birdfeed_worker.queue.scripts import run_when_full

#: Outcome → its name in the metrics.
OUTCOMES: Final[Mapping[type, str]] = {Written: "written", Dead: "dead"}
#: Seconds between samples, and how many are kept (an hour of them).
SAMPLE_SECONDS: Final = 10
SAMPLES: Final = 360


class Counters:
    """Counts the results of deliveries: written rows by type and cost status, and what the pool's metrics need."""

    def __init__(self, connection: Redis, keys: Keys, meter: Meter, clock: Clock | None = None) -> None:
        self._connection = connection
        self._minutes = MinuteCounts(keys, clock or Clock())
        self._keys = keys
        self._key = keys.birdfeed("costs")
        self._meter = meter

    def count(self, counted: Counted, jobs: int = 0, lost: int = 0, seconds: float = 0.0) -> None:
        """Add what a delivery of `jobs` jobs settled, of which another worker has `lost` by now; it took `seconds`."""
        meter = self._meter
        costs, outcomes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (header, outcome, status), events in counted.items():
            event_type = known_type(header.event_type)
            outcomes[event_type, OUTCOMES.get(type(outcome), "deferred")] += events
            if status and isinstance(outcome, Written):
                costs[event_type, status] += events
        self._minutes.add(counted)
        for (event_type, became), amount in outcomes.items():
            meter.add(EVENTS, event_type, became, amount=amount)
        meter.add(JOBS, amount=jobs)
        if lost:
            meter.add(LOST, amount=lost)
        meter.observe(DELIVERY_SECONDS, seconds=seconds)
        with self._connection.pipeline(transaction=False) as pipe:
            for (event_type, status), amount in costs.items():
                pipe.hincrby(self._key, f"{event_type}:{status}", amount)
            self._minutes.send(pipe)
            meter.send(pipe)
            run_when_full(self._connection, self._keys, pipe)


@dataclass(slots=True)
class Sampler:
    """Records every ten seconds, by the worker that comes first: the ledger's sums, from which rates are computed; what
    producers accepted and dropped, by the minute; and the spools of their hosts.
    """

    connection: Redis
    keys: Keys
    clock: Clock
    _next: float = field(init=False, default=float("-inf"))

    def step(self) -> None:
        """Take a sample, if it is time for one."""
        if self.clock.monotonic() < self._next:
            return
        self._next = self.clock.monotonic() + SAMPLE_SECONDS
        lease = self.keys.birdfeed("sampler")
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.set(lease, "1", nx=True, px=SAMPLE_SECONDS * 1_000 - 500)
            if not run_when_full(self.connection, self.keys, pipe)[0]:
                return
            remember_spools(self.connection, self.keys, self.clock.time())
            counts = ledger_counts(self.connection, self.keys)
            sums: dict[Any, Any] = dict(sums_of(counts))
            if sums:
                count_changes(self.connection, self.keys, counts, self.clock.time())
                pipe.xadd(self.keys.birdfeed("samples"), sums, maxlen=SAMPLES, approximate=False)
            run_when_full(self.connection, self.keys, pipe)


def ledger_counts(connection: Redis, keys: Keys) -> dict[str, int]:
    """The ledger's hash: name → count."""
    return {as_text(name): whole(amount) for name, amount in connection.hgetall(keys.ledger).items()}


def sums_of(counts: dict[str, int]) -> Counter[str]:
    """Accepted, written, dead, dropped and purged over all types."""
    sums = Counter[str]()
    for name, amount in counts.items():
        sums[name.partition(":")[0]] += amount
    return sums
