"""Add the counts of dropped events to the ledger in Redis; while Redis is away, to the spool every 30 seconds."""

import logging
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from birdfeed.delivery.sending import Sending
from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.spool.store import Drops, Spool
from birdfeed.stats import Counters

#: Seconds between writes of drop counts to the spool, and between checks for those that other processes left there.
_KEEP_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0


class Reports:
    """The drop counts of one pipeline, and those in its spool."""

    def __init__(self, sending: Sending, spool: Spool | None, counters: Counters, clock: Callable[[], float]) -> None:
        self._sending = sending
        self._spool = spool
        self._counters = counters
        self._clock = clock
        self._report: tuple[str, Drops] | None = None
        self._next_keep = clock() + _KEEP_SECONDS
        self._next_look = float("-inf")

    def send(self, *, closing: bool) -> None:
        """Send the new counts; with `closing`, those that Redis doesn't take go to the spool, if there is one."""
        if self._report is None and self._counters.unreported:
            self._report = (str(uuid4()), self._counters.take_unreported())
        breaker = self._sending.breaker
        if self._report is not None and breaker.allows() and self._sending.report(*self._report):
            self._report = None
        now = self._clock()
        if self._report is not None and (closing or now >= self._next_keep):
            self._next_keep = now + _KEEP_SECONDS
            self._spool_report()
        if self._spool is not None and not closing and now >= self._next_look and breaker.allows():
            self._next_look = now + _LOOK_SECONDS
            self._send_spooled(self._spool)

    def keep(self) -> None:
        """Write the new counts to the spool, without trying Redis."""
        if self._report is None and self._counters.unreported:
            self._report = (str(uuid4()), self._counters.take_unreported())
        self._spool_report()

    def _spool_report(self) -> None:
        if self._spool is None or self._report is None:
            return
        try:
            self._spool.add_report(*self._report)
            self._report = None
        except SpoolError as error:
            log_throttled(logging.ERROR, "spool", "%s; drop counts are kept in memory", error)

    def _send_spooled(self, spool: Spool) -> None:
        try:
            while spool.exists() and (claimed := spool.claim_report()) is not None:
                if not self._sending.report(*claimed):
                    return
                spool.settle_report(claimed[0])
        except SpoolError as error:
            log_throttled(logging.ERROR, "spool", "%s; its drop counts wait", error)
