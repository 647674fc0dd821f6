"""The path of events under one configuration: what may leave the process, a buffer, and the flusher that empties it."""

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from birdfeed_schemas.tables.counted import counted

from birdfeed.buffering.buffer import Buffer, Item
from birdfeed.delivery.flusher import Flusher
from birdfeed.encoding.added_fields import DEFAULTS
from birdfeed.encoding.allowlist import Allowed, load_plugged_in
from birdfeed.encoding.encoder import BeforeSend, Encoder, Policy
from birdfeed.encoding.sampling import Sampling
from birdfeed.encoding.sanitize import Bounds
from birdfeed.logging_once import error_location, log_throttled
from birdfeed.options import Options
from birdfeed.runtime.fork_lock import ROUND_SECONDS, ForkLock, import_lock
from birdfeed.runtime.wake import Wake
from birdfeed.stats import Counters

if TYPE_CHECKING:
    from birdfeed.delivery.delivery import Delivery
    from birdfeed.delivery.write_through import WriteThrough
    from birdfeed.transport.connection import Credentials


class Pipeline:
    """One pipeline is on at a time; a closed one may still be sending what it holds."""

    def __init__(
        self,
        options: Options,
        counters: Counters,
        *,
        before_send: BeforeSend | None,
        credentials: "Credentials | None",
    ) -> None:
        self.options = options
        self._counters = counters
        self._credentials = credentials
        policy = policy_of(options, before_send)
        self.allowed = Allowed(policy)
        #: Event type → what its events may send; `allowed.resolve` adds types that are not in it.
        self.shapes = self.allowed.known
        self._encoder = Encoder(policy, counters)
        self.encode = self._encoder.encode
        self._wake = Wake()
        self.buffer = Buffer(
            counters=counters,
            wake=self._wake,
            max_events=options.buffer_events,
            max_bytes=options.buffer_bytes,
            drop_policy=options.drop_policy,
        )
        #: Takes an encoded event; returns whether it is kept, as far as is known then.
        self.put: Callable[[Item], bool] = self.buffer.put
        self._write_through: WriteThrough | None = None
        if options.durability == "spool" and options.spool_bytes:
            with import_lock:
                from birdfeed.delivery import write_through

            self._write_through = write_through.WriteThrough(options, counters, self.buffer.put)
            self.put = self._write_through.put
        self._delivery: Delivery | None = None
        self._round_lock = ForkLock(ROUND_SECONDS)
        #: None before the start, and when each event is sent by the thread that tracks it.
        self.flusher: Flusher | None = None

    # ---- running

    def start(self) -> None:
        """Start the flusher; if the interpreter is shutting down, the thread that tracks an event sends it."""
        flusher = Flusher(self.round, self.options.flush_interval, self._wake, self._prepare)
        self.flusher = flusher
        try:
            flusher.start()
        except RuntimeError:
            self.send_at_once()

    def send_at_once(self) -> None:
        """From now on, events are sent by the thread that tracks them, because the process is exiting."""
        self.flusher = None
        put = self.put

        def put_and_send(item: Item) -> bool:
            kept = put(item)
            sent = self.round(closing=True) or self._abandon()
            return kept and sent

        self.put = put_and_send

    @property
    def current(self) -> bool:
        """Whether the caller is the flusher's thread."""
        return self.flusher is not None and self.flusher.current

    def round(self, *, closing: bool) -> bool:
        """Deliver the buffered events; returns whether nothing is left in memory."""
        self._encoder.added.look()
        with self._round_lock:
            if self._delivery is None:
                factory = load_factory()
                with import_lock:
                    self._delivery = factory.assemble(self.options, self.buffer, self._counters, self._credentials)
            return self._delivery.round(closing=closing)

    def _prepare(self) -> None:
        """Do slow work that no request may wait for. Called in the flusher's thread before its first round."""
        load_factory().announce(self.options)
        load_plugged_in()

    # ---- ending

    def finish(self, timeout: float, *, exiting: bool = False) -> bool:
        """Send everything, within `timeout` seconds, and end the flusher.

        Args:
            timeout: In seconds.
            exiting: The process is exiting. Events tracked after this are sent immediately, over the same connection:
                during interpreter shutdown no new one can be opened.

        Returns:
            Whether every event reached Redis or the spool; the others are dropped and counted with the reason "closed".
        """
        flusher = self.flusher
        if exiting:
            self.send_at_once()
        if flusher is not None and not flusher.stop(timeout):
            log_throttled(logging.ERROR, "hung", "Redis or the spool did not answer in %.1f s", timeout)
            return self._abandon()
        safe = False
        try:
            safe = self.round(closing=True)
        except Exception as error:
            log_throttled(logging.ERROR, "internal", "the last flush failed: %s", error_location(error))
        if not safe and not self._abandon():
            return False
        if not exiting:
            self._release()
        return True

    def _abandon(self) -> bool:
        """Give up sending; returns whether all that was left went to the spool."""
        if self._delivery is not None:
            lost = self._delivery.abandon()
        else:
            items = self.buffer.take_all()
            lost = len(items)
            self._counters.taken += lost
            for item in items:
                self._counters.drop(item[0], "closed")
        if lost:
            lost_text = counted(lost, "event was", "events were")
            log_throttled(logging.ERROR, "closed", "%s lost: neither Redis nor the spool took them", lost_text)
        return lost == 0

    def _release(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
        if self._write_through is not None:
            self._write_through.close()

    # ---- state

    @property
    def redis(self) -> str:
        """The state of Redis: "up", "down", or "unknown" if nothing was sent yet."""
        return self._delivery.breaker.state if self._delivery is not None else "unknown"

    @property
    def in_flight(self) -> int:
        """Events that neither the buffer nor Redis nor the spool has."""
        return self._delivery.in_flight if self._delivery is not None else 0


@cache
def load_factory() -> ModuleType:
    """The factory module, which imports redis. It is cached, because modules are gone during interpreter shutdown."""
    with import_lock:
        from birdfeed.delivery import factory
    return factory


def policy_of(options: Options, before_send: BeforeSend | None) -> Policy:
    """The policy that these options describe: what may leave the process."""
    key = options.user_hmac_key
    return Policy(
        extra=options.extra_fields,
        hmac_key=key.encode() if key else None,
        hmac_fields=options.hmac_fields,
        before_send=before_send,
        keep_traceback=options.keep_traceback,
        error_message=options.error_message,
        referrer_path=options.referrer == "path",
        max_event_bytes=options.max_event_bytes,
        defaults={name: getattr(options, name) or "" for name in DEFAULTS},
        bounds=Bounds(depth=options.max_depth, items=options.max_items, text=options.max_text),
        sampling=Sampling(options.sample, errors=options.sample_errors),
    )
