"""Send events from the buffer to Redis, or to the spool while Redis is away: one round of the flusher.

    buffer ──pack──▶ in flight ──┬─▶ Redis
    spool's single events ───────┘└▶ spool ──▶ Redis, later

A batch stays in flight until Redis or the spool has it, so after any error the next round tries it again. While a batch
is in flight, nothing more is taken from the buffer, so that the buffer's bounds limit the memory of both.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from birdfeed.buffering.buffer import Buffer
from birdfeed.delivery.drain import Drain
from birdfeed.delivery.heartbeat import Heartbeat
from birdfeed.delivery.reports import Reports
from birdfeed.delivery.sending import Sender, Sending
from birdfeed.encoding.batch import PackedBatch, cut, line_of, mark_retried, pack
from birdfeed.encoding.encoder import Encoded
from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.options import Options
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters
from birdfeed.transport.circuit_breaker import Breaker
from birdfeed.transport.enqueuer import Outcome

#: Events and bytes taken from the buffer at once, and how often in one round.
_TAKE_EVENTS: Final = 20_000
_TAKE_BYTES: Final = 16_000_000
_TAKES: Final = 10
#: Batches, and bytes, sent in one round trip; a slow connection must transmit them within redis_timeout.
_SEND_BATCHES: Final = 16
_SEND_BYTES: Final = 1_000_000


class Delivery:
    """The rounds of one pipeline. Methods may be called from any thread; one round runs at a time."""

    def __init__(
        self,
        *,
        options: Options,
        buffer: Buffer,
        counters: Counters,
        sender: Sender,
        spool: Spool | None,
        clock: Callable[[], float] = time.monotonic,
        breaker: Breaker | None = None,
    ) -> None:
        """`spool` is None if there is none; `clock` returns monotonic seconds."""
        self._options = options
        self._buffer = buffer
        self._counters = counters
        self._spool = spool
        self.breaker = breaker if breaker is not None else Breaker(clock=clock)
        self._sending = Sending(sender, self.breaker, counters, keeps="in the spool" if spool else "in memory")
        self._reports = Reports(self._sending, spool, counters, clock)
        self._drain = Drain(options, self._sending, spool, counters, clock)
        self._heartbeat = Heartbeat(self._sending, spool, counters, clock)
        self._in_flight: deque[PackedBatch] = deque()
        # Held while batches change place, never while waiting for Redis or the spool; another thread calls `abandon`.
        self._moving = threading.RLock()
        self._abandoned = False
        self._lock = threading.RLock()

    @property
    def in_flight(self) -> int:
        """Events that neither the buffer nor Redis nor the spool has."""
        with self._moving:
            return sum(batch.events for batch in self._in_flight)

    def round(self, *, closing: bool = False) -> bool:
        """Send the buffered events. With `closing`, the drop counts don't stay in memory either.

        Returns:
            Whether every event that was in memory at the start is in Redis or the spool, or was dropped and counted.
        """
        with self._lock:
            safe = self._empty_buffer()
            self._drain.collect(closing=closing)
            self._reports.send(closing=closing)
            if not closing:
                self._drain.send()
                self._heartbeat.beat(buffered=len(self._buffer), in_flight=self.in_flight)
            return safe

    def abandon(self) -> int:
        """Stop waiting for Redis: write what is left to the spool, or drop and count it.

        For the exit of a process. A round that waits for Redis's answer in another thread finds nothing left to do. The
        batches it had sent may be in Redis, so they go to the spool marked as retried, and Redis takes them only once.

        Returns:
            How many events were lost.
        """
        with self._moving:
            self._abandoned = True
            batches = [mark_retried(batch) for batch in self._in_flight]
            self._in_flight.clear()
        items = self._buffer.take_all()
        self._take(items)
        batches += self._pack(items)
        try:
            if not batches or self._store(batches):
                return 0
            for batch in batches:
                self._counters.drop(batch.event_type, "closed", batch.events)
            self._reports.keep()
            return sum(batch.events for batch in batches)
        finally:
            if self._spool is not None:
                self._spool.close()  # the waiting thread has nothing left to write to it

    def close(self) -> None:
        """Close the connection and the spool's file."""
        self._sending.close()
        if self._spool is not None:
            self._spool.close()

    def _empty_buffer(self) -> bool:
        # Events tracked meanwhile are left to the next round: they may come faster than Redis takes them.
        waiting = len(self._buffer)
        for _ in range(_TAKES):
            if not self._place():
                return False
            with self._moving:
                if self._abandoned:
                    return False
                items = self._buffer.take(_TAKE_EVENTS, _TAKE_BYTES)
                if not items:
                    return True
                if not self.breaker.allows() and self._spool_refuses():
                    self._sending.count(Counter((item[0], "spool_full") for item in items))
                else:
                    try:
                        self._in_flight.extend(self._pack(items))
                    except BaseException:
                        self._buffer.put_back(items)
                        raise
                self._take(items)
                waiting -= len(items)
            if waiting <= 0:
                break
        return self._place() and waiting <= 0

    def _take(self, items: Sequence[Encoded]) -> None:
        self._counters.taken += len(items)
        self._counters.dropped_fields += sum(item[2] for item in items)

    def _pack(self, items: Iterable[Encoded]) -> list[PackedBatch]:
        options = self._options
        lines = ((item[0], line_of(item)) for item in items)
        return [
            pack(event_type, part, compression=options.compression)
            for event_type, part in cut(lines, batch_events=options.batch_events, batch_bytes=options.batch_bytes)
        ]

    def _place(self) -> bool:
        """Send or spool what is in flight; returns whether nothing is left in flight."""
        while chunk := self._chunk():
            left = chunk
            if self.breaker.allows():
                answer = self._sending.enqueue(chunk)
                with self._moving:
                    if self._abandoned:
                        return False
                    left = []
                    for batch, outcome in zip(chunk, answer.outcomes, strict=True):
                        if outcome.delivered:
                            self._counters.enqueued += batch.events
                            self._counters.batches += 1
                        else:
                            left.append(mark_retried(batch) if outcome is Outcome.UNKNOWN else batch)
                    self._replace(len(chunk), left)
            if left and not self._store(left):
                return False
            with self._moving:
                if self._abandoned:
                    return False
                self._replace(len(left), [])
        return True

    def _chunk(self) -> list[PackedBatch]:
        """The first batches in flight, as many as fit into one round trip; none after `abandon`."""
        with self._moving:
            chunk: list[PackedBatch] = []
            size = 0
            for batch in self._in_flight:
                if chunk and (len(chunk) >= _SEND_BATCHES or size + len(batch.data) > _SEND_BYTES):
                    break
                chunk.append(batch)
                size += len(batch.data)
            return chunk

    def _replace(self, many: int, batches: list[PackedBatch]) -> None:
        """Replace the first `many` batches in flight by `batches`."""
        for _ in range(many):
            self._in_flight.popleft()
        self._in_flight.extendleft(reversed(batches))

    def _store(self, batches: list[PackedBatch]) -> bool:
        """Put batches into the spool; returns whether they can be removed from memory."""
        if self._spool is None:
            return False
        try:
            kept, dropped = self._spool.add(batches)
        except SpoolError as error:
            log_throttled(logging.ERROR, "spool", "%s; events are kept in memory", error)
            return False
        self._counters.spooled += kept
        self._sending.count(dropped)
        return True

    def _spool_refuses(self) -> bool:
        """Whether the spool has no room, so that packing batches for it would be wasted work."""
        if self._spool is None or self._options.drop_policy == "oldest":
            return False
        try:
            return self._spool.exists() and not self._spool.has_room()
        except SpoolError:
            return False
