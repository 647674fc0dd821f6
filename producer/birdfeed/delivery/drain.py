"""Send what is in the spool: batches that waited there while Redis was away, and single events."""

import logging
from collections.abc import Callable
from typing import Final

from birdfeed.delivery.sending import Sending
from birdfeed.encoding.batch import PackedBatch
from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.options import Options
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters
from birdfeed.transport.enqueuer import Outcome

#: Seconds between checks whether the spool has something to send.
_LOOK_SECONDS: Final = 1.0


class Drain:
    """Sends what one pipeline's spool holds."""

    def __init__(
        self,
        options: Options,
        sending: Sending,
        spool: Spool | None,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._sending = sending
        self._spool = spool
        self._counters = counters
        self._clock = clock
        self._next_look = float("-inf")
        self._next_collect = float("-inf")
        self._drained_at = clock()
        self._allowance = 0.0

    def collect(self, *, closing: bool) -> None:
        """Send the single events that durability="spool" wrote: in every round with that setting, else once a second.

        Without the setting there may still be some, from a killed process or from one that had the setting.
        """
        spool = self._spool
        if spool is None:
            return
        if self._options.durability != "spool":
            now = self._clock()
            if closing or now < self._next_collect or not spool.exists():
                return
            self._next_collect = now + _LOOK_SECONDS
        options = self._options
        while self._sending.breaker.allows():
            try:
                batches, dropped_fields = spool.collect(
                    batch_events=options.batch_events,
                    batch_bytes=options.batch_bytes,
                    compression=options.compression,
                )
                self._counters.dropped_fields += dropped_fields
                if not batches or not self._send_claimed(spool, batches, drained=False):
                    return
            except SpoolError as error:
                log_throttled(logging.ERROR, "spool", "%s; its events wait", error)
                return

    def send(self) -> None:
        """Send the oldest batches of the spool, no faster than spool_drain_rate."""
        now = self._clock()
        rate = self._options.spool_drain_rate
        self._allowance = min(rate, self._allowance + rate * (now - self._drained_at))
        self._drained_at = now
        spool = self._spool
        if spool is None or now < self._next_look or not self._sending.breaker.allows() or not spool.exists():
            return
        try:
            while self._allowance >= 1:
                batches, unreadable = spool.claim(int(self._allowance))
                self._sending.count(unreadable)
                if not batches:
                    self._next_look = now + _LOOK_SECONDS
                    spool.shrink()
                    return
                self._allowance -= sum(batch.events for batch in batches)
                if not self._send_claimed(spool, batches, drained=True):
                    return
        except SpoolError as error:
            self._next_look = now + _LOOK_SECONDS
            log_throttled(logging.ERROR, "spool", "%s; its batches wait", error)

    def _send_claimed(self, spool: Spool, batches: list[PackedBatch], *, drained: bool) -> bool:
        """Send batches that this process has claimed from the spool; returns whether Redis took them all."""
        answer = self._sending.enqueue(batches)
        by_outcome: dict[Outcome, list[PackedBatch]] = {}
        for batch, outcome in zip(batches, answer.outcomes, strict=True):
            by_outcome.setdefault(outcome, []).append(batch)
        delivered = by_outcome.get(Outcome.ACCEPTED, []) + by_outcome.get(Outcome.KNOWN, [])
        events = sum(batch.events for batch in delivered)
        self._counters.enqueued += events
        self._counters.batches += len(delivered)
        self._counters.drained += events if drained else 0
        spool.settle(delivered)
        spool.release(by_outcome.get(Outcome.REFUSED, ()), unsure=False)
        spool.release(by_outcome.get(Outcome.UNKNOWN, ()), unsure=True)
        return len(delivered) == len(batches)
