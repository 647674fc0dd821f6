"""Minutes: what happened in each minute of the last two days, so that rates, shares and trends need no other system.

There is one hash in Redis for each minute, which expires. Unlike the ledger's, these counts only grow: an event that
died and was replayed counts as dead in one minute and as written in another. Fields:

    accepted:<type>  written:<type>  dead:<type>:<reason>  dropped:<type>:<reason>  purged:<type>  cost:<status>
    worker_ends      worker processes that ended without being told to

The worker that settles the events counts written, dead and cost; accepted, dropped and purged are taken from the
ledger, where producers and commands count them. Types and reasons that birdfeed doesn't know are counted as "other",
because any client may invent them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.client import Pipeline

from birdfeed_worker.clock import Clock
from birdfeed_worker.model import Counted, Dead, Written
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import run_when_full

#: Seconds for which a minute is kept: two days.
KEEP_SECONDS: Final = 172_800
#: The reasons of dead events, and of producers' drops; tests compare these with the code that uses them.
DEAD_REASONS: Final = frozenset(
    {"invalid", "unknown_event_type", "quarantined", "rejected", "too_large", "undecodable", "kills_worker", "gave_up",
     "internal_error"}
)  # fmt: skip
DROP_REASONS: Final = frozenset(
    {"bad_call", "unserialisable", "too_large", "buffer_full", "spool_full", "spool_unreadable", "before_send",
     "before_send_failed", "misconfigured", "closed", "sampled"}
)  # fmt: skip
#: The reason of events that `birdfeed forget` erased.
FORGOTTEN: Final = "forgotten"
#: Reasons of intended drops, which are not losses.
INTENDED: Final = frozenset({FORGOTTEN, "sampled"})
OTHER: Final = "other"
WORKER_ENDS: Final = "worker_ends"


@dataclass(slots=True)
class MinuteCounts:
    """Counts of one worker process; they are added to the minute in which they are sent."""

    keys: Keys
    clock: Clock
    _counts: Counter[str] = field(init=False, default_factory=Counter)

    def add(self, counted: Counted) -> None:
        """Add settled events, as counted by model.count_outcomes."""
        for (header, outcome, status), events in counted.items():
            name = known_type(header.event_type)
            match outcome:
                case Written():
                    self._counts[f"written:{name}"] += events
                    if status:
                        self._counts[f"cost:{status}"] += events
                case Dead(reason):
                    self._counts[f"dead:{name}:{known_reason(reason)}"] += events

    def send(self, pipe: Pipeline) -> None:
        """Put what was counted since the last time into a pipeline."""
        counts, self._counts = self._counts, Counter()
        add_counts(pipe, self.keys, self.clock.time(), counts)


def add_counts(pipe: Pipeline, keys: Keys, now: float, counts: Mapping[str, int]) -> None:
    """Add counts to the minute of `now` (epoch s)."""
    key = minute_key(keys, now)
    for name, amount in counts.items():
        pipe.hincrby(key, name, amount)
    if counts:
        pipe.expire(key, KEEP_SECONDS)


def count_changes(connection: Redis, keys: Keys, ledger: Mapping[str, int], now: float) -> None:
    """Add the growth of the ledger's accepted, dropped and purged since the last time."""
    sampled = keys.birdfeed("sampled")
    before = {as_text(name): int(amount) for name, amount in connection.hgetall(sampled).items()}
    grown: Counter[str] = Counter()
    for name, amount in ledger.items():
        field = _field(name)
        if field and amount > before.get(name, 0):
            grown[field] += amount - before.get(name, 0)
    if not before and connection.exists(keys.birdfeed("samples")):
        grown.clear()  # the first time in an older installation: earlier events don't belong to this minute
    with connection.pipeline(transaction=False) as pipe:
        pipe.delete(sampled)
        for name, amount in ledger.items():
            pipe.hset(sampled, name, str(amount))
        add_counts(pipe, keys, now, grown)
        run_when_full(connection, keys, pipe)


def _field(name: str) -> str:
    """The minute's field for a field of the ledger; "" for those that are counted elsewhere."""
    kind, _, rest = name.partition(":")
    if kind in {"accepted", "purged"}:
        return f"{kind}:{known_type(rest)}"
    if kind == "dropped":
        event_type, _, reason = rest.rpartition(":")
        return f"dropped:{known_type(event_type)}:{known_reason(reason)}"
    return ""


def known_type(name: str) -> str:
    """The event type if it is registered, else "other"."""
    return name if name in registry() else OTHER


def known_reason(name: str) -> str:
    """The reason if it is one of birdfeed's, else "other"."""
    return name if name in DEAD_REASONS or name in DROP_REASONS or name == FORGOTTEN else OTHER


def read_minutes(connection: Redis, keys: Keys, now: float, minutes: int) -> list[Counter[str]]:
    """The counts of the last `minutes` minutes, the current one last. `now` is epoch s by Redis's clock."""
    with connection.pipeline(transaction=False) as pipe:
        for back in range(minutes - 1, -1, -1):
            pipe.hgetall(minute_key(keys, now - 60 * back))
        found = pipe.execute()
    return [Counter({as_text(name): int(amount) for name, amount in one.items() if amount.isdigit()}) for one in found]


def total(minutes: Sequence[Counter[str]], kind: str, last: int | None = None) -> int:
    """Events of a kind (accepted, written, dead, ...), of all types and reasons, in the `last` minutes, or in all."""
    return by_last_part(minutes if last is None else minutes[-last:], kind).total()


def by_last_part(minutes: Sequence[Counter[str]], kind: str) -> Counter[str]:
    """Events of a kind in all minutes, by the last part of the field: reason or cost status."""
    found = Counter[str]()
    for one in minutes:
        for name, amount in one.items():
            if name.partition(":")[0] == kind:
                found[name.rpartition(":")[2]] += amount
    return found


def lost(minutes: Sequence[Counter[str]]) -> Counter[str]:
    """Events that producers dropped, by reason, without intended drops."""
    found = by_last_part(minutes, "dropped")
    return Counter({reason: events for reason, events in found.items() if reason not in INTENDED})


def minute_key(keys: Keys, now: float) -> str:
    """The hash of a minute."""
    return keys.birdfeed(f"minute:{int(now // 60)}")
