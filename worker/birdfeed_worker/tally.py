"""Tally: what is counted beside the ledger, for `birdfeed status` and the metrics; nothing depends on it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from birdfeed_schemas.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.decode import Item
from birdfeed_worker.outcomes import Written
from birdfeed_worker.take import as_text

#: Seconds between samples, and how many are kept: an hour.
SAMPLE_SECONDS: Final = 10
SAMPLES: Final = 360


class Tally:
    """Counts written rows by type and cost status."""

    def __init__(self, connection: Redis, keys: Keys) -> None:
        self._connection = connection
        self._key = keys.birdfeed("costs")

    def count(self, items: Sequence[Item]) -> None:
        """Add what this delivery wrote."""
        found = Counter(
            f"{item.header.event_type}:{item.cost_status}"
            for item in items
            if item.cost_status and isinstance(item.outcome, Written)
        )
        if found:
            with self._connection.pipeline(transaction=False) as pipe:
                for name, amount in found.items():
                    pipe.hincrby(self._key, name, amount)
                pipe.execute()


class Sampler:
    """Notes the ledger's sums every ten seconds, whichever worker comes first, so that rates can be read off."""

    def __init__(self, connection: Redis, keys: Keys, clock: Clock) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock
        self._next = float("-inf")

    def step(self) -> None:
        """A sample, if it is time for one."""
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + SAMPLE_SECONDS
        lease = self._keys.birdfeed("sampler")
        if not self._connection.set(lease, "1", nx=True, px=SAMPLE_SECONDS * 1_000 - 500):
            return
        sums: dict[Any, Any] = dict(sums_of(ledger_counts(self._connection, self._keys)))
        if sums:
            self._connection.xadd(self._keys.birdfeed("samples"), sums, maxlen=SAMPLES, approximate=False)


def ledger_counts(connection: Redis, keys: Keys) -> dict[str, int]:
    """The ledger's hash."""
    return {as_text(name): int(amount) for name, amount in connection.hgetall(keys.ledger).items()}


def sums_of(counts: dict[str, int]) -> Counter[str]:
    """Accepted, written, dead, dropped and purged over all types."""
    sums = Counter[str]()
    for name, amount in counts.items():
        sums[name.partition(":")[0]] += amount
    return sums
