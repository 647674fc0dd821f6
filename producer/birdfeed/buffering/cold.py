"""Hold events that can't be filtered yet: the settings are being read, or their type is seen for the first time.

They are kept whole, but as JSON, so that a handler may change what it passed; nothing of them leaves the process before
`thaw` has filtered them, which is the flusher's work.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from birdfeed.buffering.buffer import Buffer
from birdfeed.encoding.allowlist import Allowed
from birdfeed.encoding.encoder import Encoder, mint, snapshot
from birdfeed.stats import Counters

#: Bounds; the same as the settings' own defaults, which are not known yet.
_MAX_EVENTS: Final = 100_000
_MAX_BYTES: Final = 64_000_000


class Cold:
    """Events that wait to be filtered."""

    def __init__(self, counters: Counters, wake: threading.Event) -> None:
        self._counters = counters
        self._waiting = Buffer(counters=counters, wake=wake)
        self._waiting.bound(max_events=_MAX_EVENTS, max_bytes=_MAX_BYTES, drop_policy="newest")

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes waiting; an estimate."""
        return self._waiting.size

    def keep(self, event_type: str, event_data: Mapping[str, Any]) -> None:
        """Keep an event as it is now, with an id and a time of its own."""
        event_id, occurred_at = mint()
        try:
            kept = snapshot(event_data)
        except (TypeError, RecursionError, MemoryError):
            self._counters.drop(event_type, "unserialisable")
            return
        self._waiting.put((event_type, kept, event_id, occurred_at))

    def thaw(self, allowed: Allowed, encoder: Encoder, put: Callable[[tuple[str, bytes, int]], None]) -> None:
        """Filter and write what waits, and `put` it where written events go."""
        while items := self._waiting.take(1_000, _MAX_BYTES):
            for event_type, kept, event_id, occurred_at in items:
                names = allowed.meet(event_type)
                event = encoder.encode(event_type, orjson.loads(kept), names, (event_id, occurred_at))
                if event is not None:
                    put(event)

    def forget(self) -> None:
        """Telemetry is off: nothing of this will be sent."""
        self._waiting.forget()
