"""Bring events from the buffer to Redis, or to the spool where Redis is away: one round of the flusher.

    buffer ──pack──▶ held ──┬─▶ Redis
    spool's single events ──┘└▶ spool ──▶ Redis, later

A batch stays in `held` until Redis or the spool has it, so an error anywhere leaves it there for the next round; while
something is held nothing more is taken from the buffer, whose bounds then bound the whole.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol
from uuid import uuid4

from birdfeed.buffering.buffer import Buffer
from birdfeed.encoding.batch import PackedBatch, cut, mark_retried, pack
from birdfeed.errors import SpoolError
from birdfeed.logging_once import say
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Drops, Spool
from birdfeed.stats import Counters
from birdfeed.transport.circuit_breaker import Breaker
from birdfeed.transport.enqueuer import Answer, Outcome

#: Events and bytes taken from the buffer at once, and how often in one round.
_TAKE_EVENTS: Final = 20_000
_TAKE_BYTES: Final = 16_000_000
_TAKES: Final = 10
#: Batches, and bytes, sent in one round trip; a slow line must carry them within redis_timeout.
_SEND_BATCHES: Final = 16
_SEND_BYTES: Final = 1_000_000
#: Seconds between looks at whether the spool has something to send, and between writes of drop counts into it.
_LOOK_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 30.0


class Sender(Protocol):
    """What delivery needs of enqueue.Enqueuer."""

    def enqueue(self, batches: Sequence[PackedBatch]) -> Answer:
        """Send batches."""

    def report(self, report_id: str, drops: Drops) -> Exception | None:
        """Count drops in the ledger."""

    def close(self) -> None:
        """Close the connections."""


class Delivery:
    """The rounds of one process; safe to call from any thread, one round at a time."""

    def __init__(
        self,
        *,
        settings: ProducerSettings,
        buffer: Buffer,
        counters: Counters,
        sender: Sender,
        spool: Spool | None,
        clock: Callable[[], float] = time.monotonic,
        breaker: Breaker | None = None,
    ) -> None:
        """`spool` is None where there is none; `clock` gives monotonic seconds."""
        self._settings = settings
        self._buffer = buffer
        self._counters = counters
        self._sender = sender
        self._spool = spool
        self._clock = clock
        self.breaker = breaker if breaker is not None else Breaker(clock=clock)
        self._held: deque[PackedBatch] = deque()
        self._report: tuple[str, Drops] | None = None
        self._next_look = float("-inf")
        self._next_report = clock() + _REPORT_SECONDS
        self._drained_at = clock()
        self._allowance = 0.0
        self._lock = threading.RLock()

    def round(self, *, closing: bool = False) -> bool:
        """Send what waits. With `closing`, drop counts are not left in memory either.

        Returns:
            Whether every event that was in memory is in Redis or the spool now (or was dropped and counted).
        """
        with self._lock:
            safe = self._empty_buffer()
            self._collect_single_events()
            self._send_reports(closing)
            if not closing:
                self._drain()
            return safe

    def give_up(self) -> int:
        """Drop what is still in memory: the process ends. Returns how many events that were."""
        with self._lock:
            lost = 0
            for batch in self._held:
                self._counters.drop(batch.event_type, "closed", batch.events)
                lost += batch.events
            self._held.clear()
            while items := self._buffer.take(_TAKE_EVENTS, _TAKE_BYTES):
                self._counters.taken += len(items)
                for item in items:
                    self._counters.drop(item[0], "closed")
                lost += len(items)
            return lost

    def close(self) -> None:
        """Close the connection and the spool's file."""
        with self._lock:
            self._sender.close()
            if self._spool is not None:
                self._spool.close()

    def _empty_buffer(self) -> bool:
        for _ in range(_TAKES):
            if not self._place_held():
                return False
            items = self._buffer.take(_TAKE_EVENTS, _TAKE_BYTES)
            if not items:
                return True
            self._counters.taken += len(items)
            self._counters.dropped_fields += sum(item[2] for item in items)
            if not self.breaker.allows() and self._spool_refuses():
                self._drop((item[0] for item in items), "spool_full")
                continue
            try:
                self._held.extend(self._pack(items))
            except BaseException:
                self._buffer.put_back(items)
                raise
        return self._place_held() and not len(self._buffer)

    def _pack(self, items: Iterable[tuple[str, bytes, int]]) -> list[PackedBatch]:
        settings = self._settings
        lines = ((item[0], item[1]) for item in items)
        return [
            pack(event_type, part, compression=settings.compression)
            for event_type, part in cut(lines, batch_events=settings.batch_events, batch_bytes=settings.batch_bytes)
        ]

    def _place_held(self) -> bool:
        """Send or spool what is held; whether nothing is held any more."""
        while self._held:
            chunk = _chunk(self._held)
            left = chunk
            if self.breaker.allows():
                left = self._send(chunk)
            stored = self._store(left)
            for _ in chunk:
                self._held.popleft()
            if not stored:
                self._held.extendleft(reversed(left))
                return False
        return True

    def _send(self, chunk: list[PackedBatch]) -> list[PackedBatch]:
        """Send batches to Redis; returns those it didn't take, marked where it may have."""
        answer = self._answer(chunk)
        left = []
        for batch, outcome in zip(chunk, answer.outcomes, strict=True):
            if outcome.delivered:
                self._counters.enqueued += batch.events
                self._counters.batches += 1
            else:
                left.append(mark_retried(batch) if outcome is Outcome.UNKNOWN else batch)
        return left

    def _answer(self, chunk: list[PackedBatch]) -> Answer:
        answer = self._sender.enqueue(chunk)
        if answer.error is None:
            self.breaker.succeeded()
        else:
            self._failed(answer.error)
        return answer

    def _failed(self, error: Exception) -> None:
        self.breaker.failed()
        say(
            logging.WARNING,
            "redis away",
            "Redis did not take events (%s: %s); they are kept %s",
            type(error).__name__,
            error,
            "in the spool" if self._spool is not None else "in memory",
        )

    def _store(self, batches: list[PackedBatch]) -> bool:
        """Put batches into the spool; whether they need not be held any more."""
        if not batches:
            return True
        if self._spool is None:
            return False
        try:
            kept, dropped = self._spool.add(batches)
        except SpoolError as error:
            say(logging.ERROR, "spool", "%s; events are kept in memory", error)
            return False
        self._counters.spooled += kept
        self._count(dropped)
        return True

    def _spool_refuses(self) -> bool:
        """Whether the spool has no room for more, so that packing for it would be work for nothing."""
        if self._spool is None or self._settings.drop_policy == "oldest":
            return False
        try:
            return self._spool.exists() and not self._spool.has_room()
        except SpoolError:
            return False

    def _collect_single_events(self) -> None:
        """With durability=spool: send what track_event wrote to the spool."""
        if self._spool is None or self._settings.durability != "spool":
            return
        settings = self._settings
        while self.breaker.allows():
            try:
                batches, dropped_fields = self._spool.collect(
                    batch_events=settings.batch_events,
                    batch_bytes=settings.batch_bytes,
                    compression=settings.compression,
                )
                self._counters.dropped_fields += dropped_fields
                if not batches or not self._send_claimed(self._spool, batches, drained=False):
                    return
            except SpoolError as error:
                say(logging.ERROR, "spool", "%s; its events wait", error)
                return

    def _drain(self) -> None:
        """Send the oldest batches of the spool, no faster than spool_drain_rate."""
        now = self._clock()
        rate = self._settings.spool_drain_rate
        self._allowance = min(rate, self._allowance + rate * (now - self._drained_at))
        self._drained_at = now
        spool = self._spool
        if spool is None or now < self._next_look or not self.breaker.allows() or not spool.exists():
            return
        try:
            while self._allowance >= 1:
                batches, unreadable = spool.claim(int(self._allowance))
                self._count(unreadable)
                if not batches:
                    self._next_look = now + _LOOK_SECONDS
                    spool.shrink()
                    return
                self._allowance -= sum(batch.events for batch in batches)
                if not self._send_claimed(spool, batches, drained=True):
                    return
        except SpoolError as error:
            self._next_look = now + _LOOK_SECONDS
            say(logging.ERROR, "spool", "%s; its batches wait", error)

    def _send_claimed(self, spool: Spool, batches: list[PackedBatch], *, drained: bool) -> bool:
        """Send batches this process holds in the spool; whether Redis took them all."""
        answer = self._answer(batches)
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

    def _send_reports(self, closing: bool) -> None:
        """Bring drop counts to the ledger; while Redis is away, to the spool now and then."""
        counters, spool = self._counters, self._spool
        if self._report is None and counters.unreported:
            self._report = (str(uuid4()), counters.take_unreported())
        if self._report is not None and self.breaker.allows():
            error = self._sender.report(*self._report)
            if error is None:
                self._report = None
            else:
                self._failed(error)
        now = self._clock()
        if self._report is not None and spool is not None and (closing or now >= self._next_report):
            self._next_report = now + _REPORT_SECONDS
            try:
                spool.add_report(*self._report)
                self._report = None
            except SpoolError as error:
                say(logging.ERROR, "spool", "%s; drop counts are kept in memory", error)
        if spool is not None and not closing and now >= self._next_look and self.breaker.allows():
            self._send_spooled_reports(spool)

    def _send_spooled_reports(self, spool: Spool) -> None:
        try:
            while spool.exists() and (claimed := spool.claim_report()) is not None:
                if (error := self._sender.report(*claimed)) is not None:
                    self._failed(error)
                    return
                spool.settle_report(claimed[0])
        except SpoolError as error:
            say(logging.ERROR, "spool", "%s; its drop counts wait", error)

    def _count(self, drops: Drops) -> None:
        for (event_type, reason), events in drops.items():
            self._counters.drop(event_type, reason, events)
            say(logging.ERROR, reason, "%d %s events were dropped: %s", events, event_type, reason)

    def _drop(self, event_types: Iterable[str], reason: str) -> None:
        drops: dict[tuple[str, str], int] = {}
        for event_type in event_types:
            drops[event_type, reason] = drops.get((event_type, reason), 0) + 1
        self._count(drops)


def _chunk(held: deque[PackedBatch]) -> list[PackedBatch]:
    """The first batches, as many as one round trip carries."""
    chunk: list[PackedBatch] = []
    size = 0
    for batch in held:
        if chunk and (len(chunk) >= _SEND_BATCHES or size + len(batch.data) > _SEND_BYTES):
            break
        chunk.append(batch)
        size += len(batch.data)
    return chunk
