"""Count what happens to events: how many were tracked and enqueued, and every drop with its reason.

Nothing is lost silently: each event that doesn't reach Redis or the spool is counted under one of the reasons below,
and the counts are added to the ledger in Redis when it can be reached.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: The reason for events that sampling leaves out. They are not lost: the rows that are sent represent them.
SAMPLED: Final = "sampled"
#: Reason of a drop → its meaning. `stats().dropped` and the ledger use the keys.
REASONS: Final[Mapping[str, str]] = {
    "bad_call": "the event type was not printable text, or the event data not a mapping",
    "unserialisable": "nothing in the event could be encoded as JSON",
    "too_large": "the event alone is larger than max_event_bytes",
    "buffer_full": "the buffer in memory was full",
    "spool_full": "Redis was unreachable and the spool on disk was full",
    "spool_unreadable": "the spool's file was damaged, and these events could not be read back from it",
    "before_send": "the before_send hook returned None",
    "before_send_failed": "the before_send hook raised an exception, so the event was not sent",
    SAMPLED: "BIRDFEED_SAMPLE sends only a share of such events, and this one is not part of it",
    "misconfigured": "invalid settings, so telemetry is off; the log says which",
    "closed": "the process ended and neither Redis nor the spool took the event within close_timeout",
}

#: The reasons of events that are dropped before the flusher takes them.
_BEFORE_TAKING: Final = REASONS.keys() - {"spool_full", "spool_unreadable", "closed"}

#: The event type under which drops without a valid one are counted.
UNKNOWN_TYPE: Final = "unknown"

#: Pairs of type and reason counted separately; further types (for example, built from ids) are counted together.
_MAX_PAIRS: Final = 500
_OTHER_TYPES: Final = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the producer of this process has done since it started (a forked child starts at zero).

    Attributes:
        state: "idle" (no event yet), "on", "off" (no Redis configured, disabled, or wrong settings) or "closed".
        redis: "up", "down", or "unknown" if nothing was sent yet.
        tracked: Calls of track_event, dropped events included.
        buffered: Events in memory, waiting for the next flush.
        buffered_bytes: Their size; an estimate, which is corrected when a flush empties the buffer.
        in_flight: Events taken from the buffer that neither Redis nor the spool has yet.
        enqueued: Events in jobs that Redis took from this process, including those from the spool.
        batches: The number of those jobs.
        spooled: Events that this process wrote to the spool.
        drained: Events that this process sent from the spool, whichever process wrote them.
        dropped: Dropped events by reason (see `birdfeed.stats.REASONS`); those under "sampled" are not lost.
        dropped_fields: Fields not passed on because birdfeed doesn't store them.
        sanitized: Events with values that JSON can't hold, which were replaced.
        truncated: Events that were cut: a text was too long, or a structure too deep or too large.
    """

    state: str
    redis: str
    tracked: int
    buffered: int
    buffered_bytes: int
    in_flight: int
    enqueued: int
    batches: int
    spooled: int
    drained: int
    dropped: Mapping[str, int]
    dropped_fields: int
    sanitized: int
    truncated: int


@dataclass(slots=True)
class Counters:
    """The counts of one producer. The methods may be called from any thread; only the flusher changes the fields.

    `taken` counts the events that left the buffer or went directly to the spool.
    """

    taken: int = 0
    enqueued: int = 0
    batches: int = 0
    spooled: int = 0
    drained: int = 0
    dropped_fields: int = 0
    sanitized: int = 0
    truncated: int = 0
    _dropped: dict[tuple[str, str], int] = field(default_factory=dict)
    _unreported: dict[tuple[str, str], int] = field(default_factory=dict)
    # Re-entrant: a signal handler or a __del__ may track an event while this thread counts one.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def drop(self, event_type: str, reason: str, events: int = 1) -> None:
        """Count `events` as dropped for `reason`, one of REASONS."""
        with self._lock:
            key = (event_type, reason)
            if key not in self._dropped and len(self._dropped) >= _MAX_PAIRS:
                key = (_OTHER_TYPES, reason)
            self._dropped[key] = self._dropped.get(key, 0) + events
            self._unreported[key] = self._unreported.get(key, 0) + events

    def count_written_through(self, *, stored: bool) -> None:
        """Count one event that went directly to the spool, which stored it or was full."""
        with self._lock:
            self.taken += 1
            self.spooled += stored

    def count_filtered(self, *, sanitized: bool, truncated: bool) -> None:
        """Count one event that was changed by the filter."""
        if sanitized or truncated:
            with self._lock:
                self.sanitized += sanitized
                self.truncated += truncated

    @property
    def unreported(self) -> bool:
        """Whether there are drops that take_unreported has not returned yet."""
        return bool(self._unreported)

    def take_unreported(self) -> dict[tuple[str, str], int]:
        """Drops by (event type, reason) that were not returned before; the caller must report them."""
        with self._lock:
            taken, self._unreported = self._unreported, {}
            return taken

    def dropped(self) -> dict[str, int]:
        """Drops by reason."""
        with self._lock:
            totals: dict[str, int] = {}
            for (_, reason), events in self._dropped.items():
                totals[reason] = totals.get(reason, 0) + events
            return totals

    def stats(self, *, state: str, redis: str, buffered: int, buffered_bytes: int, in_flight: int) -> Stats:
        """All counts, with the state that the client passes."""
        dropped = self.dropped()
        refused = sum(events for reason, events in dropped.items() if reason in _BEFORE_TAKING)
        return Stats(
            state=state,
            redis=redis,
            tracked=self.taken + buffered + refused,
            buffered=buffered,
            buffered_bytes=buffered_bytes,
            in_flight=in_flight,
            enqueued=self.enqueued,
            batches=self.batches,
            spooled=self.spooled,
            drained=self.drained,
            dropped=dropped,
            dropped_fields=self.dropped_fields,
            sanitized=self.sanitized,
            truncated=self.truncated,
        )
