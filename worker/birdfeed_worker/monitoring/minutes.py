"""Minutes: what happened in each minute of the last two days, so that a rate, a share or a trend needs no
other system.

One hash in Redis for each minute, which expires. Unlike the ledger's, these counts only grow: an event that died and
was replayed counts as dead in one minute and as written in another. Fields:

    accepted:<type>  written:<type>  dead:<type>:<reason>  dropped:<type>:<reason>  purged:<type>  cost:<status>
    worker_ends      worker processes that ended without being told to

Written, dead and cost are counted by the worker that settled the events; accepted, dropped and purged are read off the
ledger, where producers and commands count them. Types and reasons that are not birdfeed's own are counted as "other":
anybody may make one up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.client import Pipeline

from birdfeed_worker.clock import Clock
from birdfeed_worker.model import Counted, Dead, Written
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import run_when_full

#: Seconds a minute is kept: two days.
KEEP_SECONDS: Final = 172_800
#: Why an event dies, and why a producer drops one; tests hold these against the code that says so.
DEAD_REASONS: Final = frozenset(
    {"invalid", "unknown_event_type", "quarantined", "rejected", "too_large", "undecodable", "kills_worker", "gave_up",
     "internal_error"}
)  # fmt: skip
DROP_REASONS: Final = frozenset(
    {"bad_call", "unserialisable", "too_large", "buffer_full", "spool_full", "spool_unreadable", "before_send",
     "before_send_failed", "misconfigured", "closed", "sampled"}
)  # fmt: skip
#: Why `birdfeed forget` drops an event, by an operator's wish.
FORGOTTEN: Final = "forgotten"
#: Drops that somebody asked for: no loss.
INTENDED: Final = frozenset({FORGOTTEN, "sampled"})
OTHER: Final = "other"
WORKER_ENDS: Final = "worker_ends"


class MinuteCounts:
    """Counts of one worker process, on their way to the minute in which they are sent."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._counts: Counter[str] = Counter()

    def add(self, counted: Counted) -> None:
        """Events that were settled, by model.count_outcomes."""
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
        add_counts(pipe, self._keys, self._clock.time(), counts)


def add_counts(pipe: Pipeline, keys: Keys, now: float, counts: Mapping[str, int]) -> None:
    """Add to the minute of `now` (epoch s)."""
    key = minute_key(keys, now)
    for name, amount in counts.items():
        pipe.hincrby(key, name, amount)
    if counts:
        pipe.expire(key, KEEP_SECONDS)


def count_changes(connection: Redis, keys: Keys, ledger: Mapping[str, int], now: float) -> None:
    """Add by how much accepted, dropped and purged have grown in the ledger since the last time."""
    sampled = keys.birdfeed("sampled")
    before = {as_text(name): int(amount) for name, amount in connection.hgetall(sampled).items()}
    grown: Counter[str] = Counter()
    for name, amount in ledger.items():
        field = _field(name)
        if field and amount > before.get(name, 0):
            grown[field] += amount - before.get(name, 0)
    if not before and connection.exists(keys.birdfeed("samples")):
        grown.clear()  # an installation that is older than these counts: its past is not this minute's
    with connection.pipeline(transaction=False) as pipe:
        pipe.delete(sampled)
        for name, amount in ledger.items():
            pipe.hset(sampled, name, str(amount))
        add_counts(pipe, keys, now, grown)
        run_when_full(connection, keys, pipe)


def _field(name: str) -> str:
    """The minute's field for one of the ledger's; nothing for those that are counted elsewhere."""
    kind, _, rest = name.partition(":")
    if kind in {"accepted", "purged"}:
        return f"{kind}:{known_type(rest)}"
    if kind == "dropped":
        event_type, _, reason = rest.rpartition(":")
        return f"dropped:{known_type(event_type)}:{known_reason(reason)}"
    return ""


def known_type(name: str) -> str:
    """An event type of the registry's, or other."""
    return name if name in registry() else OTHER


def known_reason(name: str) -> str:
    """A reason of birdfeed's, or other."""
    return name if name in DEAD_REASONS or name in DROP_REASONS or name == FORGOTTEN else OTHER


def read_minutes(connection: Redis, keys: Keys, now: float, minutes: int) -> list[Counter[str]]:
    """The last so many minutes, the one that is running last. `now` is epoch s by Redis's clock."""
    with connection.pipeline(transaction=False) as pipe:
        for back in range(minutes - 1, -1, -1):
            pipe.hgetall(minute_key(keys, now - 60 * back))
        found = pipe.execute()
    return [Counter({as_text(name): int(amount) for name, amount in one.items() if amount.isdigit()}) for one in found]


def total(minutes: Sequence[Counter[str]], kind: str, last: int | None = None) -> int:
    """Events of a kind (accepted, written, dead, ...), of all types and reasons, in the last so many of the minutes."""
    some = minutes if last is None else minutes[-last:]
    return sum(amount for one in some for name, amount in one.items() if name.partition(":")[0] == kind)


def by_last_part(minutes: Sequence[Counter[str]], kind: str) -> Counter[str]:
    """The same of all minutes, by reason or cost status."""
    found = Counter[str]()
    for one in minutes:
        for name, amount in one.items():
            if name.partition(":")[0] == kind:
                found[name.rpartition(":")[2]] += amount
    return found


def lost(minutes: Sequence[Counter[str]]) -> Counter[str]:
    """Events that producers dropped, by reason, without those that somebody asked to leave out."""
    found = by_last_part(minutes, "dropped")
    return Counter({reason: events for reason, events in found.items() if reason not in INTENDED})


def minute_key(keys: Keys, now: float) -> str:
    """The hash of a minute."""
    return keys.birdfeed(f"minute:{int(now // 60)}")
