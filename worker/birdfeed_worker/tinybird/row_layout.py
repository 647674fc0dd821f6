"""Row layout: which rows a data source takes, by its columns. They are read in a thread, so that no delivery waits.

Until Tinybird has answered, and if it can't be asked, rows have all fields: any table takes those. If a table is
replaced by a newer one, that takes whole rows until its columns are read again. If it is replaced by an older one, as
when a deployment is rolled back, short rows are quarantined; then the client forgets the columns (send.py), and rows
are whole again.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import Final

from birdfeed_schemas.tables.former import FORMER, is_short

from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import TinybirdError
from birdfeed_worker.tinybird.client import Tinybird

log = logging.getLogger(__name__)

#: Seconds between two readings of a table's columns: a query per hour, of the 1,000 per day that the free plan allows.
LOOK_AGAIN: Final = 3_600.0
#: Seconds until the columns are asked for again if they are not known.
ASK_AGAIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class RowLayouts:
    """Which rows the tables take.

    Args:
        tinybird: Tinybird's client, which caches the columns.
    """

    tinybird: Tinybird
    clock: Clock
    _asked_at: dict[str, float] = field(init=False, default_factory=dict)
    _asking: dict[str, threading.Thread] = field(init=False, default_factory=dict)

    def is_short(self, datasource: str) -> bool:
        """Whether its rows may be short, as far as is known. Never waits."""
        if datasource not in FORMER or not self.tinybird.can_read:
            return False
        columns = self.tinybird.known_columns(datasource)
        age = self.clock.monotonic() - self._asked_at.get(datasource, float("-inf"))
        if age >= (ASK_AGAIN if columns is None else LOOK_AGAIN):
            self._look(datasource)
        return columns is not None and is_short(datasource, columns)

    def _look(self, datasource: str) -> None:
        asking = self._asking.get(datasource)
        if asking is not None and asking.is_alive():
            return
        self._asked_at[datasource] = self.clock.monotonic()
        thread = threading.Thread(target=self._ask, args=(datasource,), name="birdfeed-columns", daemon=True)
        self._asking[datasource] = thread
        thread.start()

    def _ask(self, datasource: str) -> None:
        try:
            self.tinybird.columns(datasource, again=True)
        except TinybirdError as error:
            log.info("%s: its columns can't be read, so rows stay as they are (%s)", datasource, error)
