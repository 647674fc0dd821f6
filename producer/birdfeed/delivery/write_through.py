"""durability="spool": write each event to the disk before track_event returns."""

import logging
from collections.abc import Callable

from birdfeed_schemas.tables.counted import counted

from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoded
from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.options import Options
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters


class WriteThrough:
    """Puts events into the spool, or into memory if that fails."""

    def __init__(
        self,
        options: Options,
        counters: Counters,
        otherwise: Callable[[Encoded], bool],
    ) -> None:
        """`otherwise` takes the events that can't be written to the spool."""
        self._spool = Spool.of(options, busy_seconds=options.spool_wait)
        self._counters = counters
        self._otherwise = otherwise

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        self._spool.close()

    def put(self, event: Encoded) -> bool:
        """Write one event to the disk; returns whether it was kept, on disk or in memory."""
        try:
            stored, dropped = self._spool.add_event(event[0], line_of(event), event[2])
        except SpoolError as error:
            log_throttled(logging.ERROR, "spool", "%s; events are kept in memory", error)
            return self._otherwise(event)
        self._counters.count_written_through(stored=stored)
        for (event_type, reason), events in dropped.items():
            self._counters.drop(event_type, reason, events)
            log_throttled(logging.ERROR, reason, "dropped %s: %s", counted(events, f"{event_type} event"), reason)
        return stored
