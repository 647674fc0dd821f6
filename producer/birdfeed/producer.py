"""The producer of one process: takes events, filters and writes them, and hands them to the flusher.

It is always in one state:

    idle ──first event──▶ starting ──settings known──▶ on ──close()──▶ closed ──next event──▶ on
                              └──no Redis configured──▶ off

Until the settings are known (reading them costs 100 ms and more, which no request may wait for) an event is kept as it
is, in memory only; the flusher's thread reads the settings and then filters, hashes and sends what waited. The same way
serves an event type that is seen for the first time. From then on an event is filtered and written in the calling
thread, where it takes microseconds.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from birdfeed_schemas.fields import SPELLINGS

from birdfeed import lifecycle
from birdfeed.buffer import Buffer
from birdfeed.counters import UNKNOWN_TYPE, Counters, Stats
from birdfeed.encode import BeforeSend, Encoder, Names, Policy, mint, snapshot
from birdfeed.flusher import Flusher
from birdfeed.forks import gate
from birdfeed.log import say, say_once

if TYPE_CHECKING:
    from birdfeed.connect import Credentials
    from birdfeed.deliver import Delivery
    from birdfeed.settings import ProducerSettings

State = Literal["idle", "starting", "on", "off", "closed"]

#: Bounds of what waits for the settings; the settings' own defaults.
_COLD_EVENTS: Final = 100_000
_COLD_BYTES: Final = 64_000_000
#: Seconds to close where the settings are not known.
_CLOSE_SECONDS: Final = 5.0
#: Characters of an event type, and types remembered: types made up from ids must not fill the memory.
_TYPE_LENGTH: Final = 100
_MAX_TYPES: Final = 256


class Producer:
    """See the module. Every method but `configure` may be called from any thread at any time and raises nothing."""

    def __init__(self) -> None:
        self._settings: ProducerSettings | None = None
        self._credentials: Credentials | None = None
        self._policy = Policy()
        self._begin()

    def _begin(self) -> None:
        """Fresh memory, with the settings there are: in a new producer, and in a forked child."""
        self._state: State = "idle"
        self.counters = Counters()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._cold = Buffer(
            max_events=_COLD_EVENTS,
            max_bytes=_COLD_BYTES,
            drop_policy="newest",
            counters=self.counters,
            wake=self._wake,
        )
        self._buffer: Buffer | None = None
        self._encoder = Encoder(self._policy, self.counters)
        # Types that may be written at once. Empty in every state but "on", which sends each event the long way.
        self._names: dict[str, Names] = {}
        self._put: Callable[[Any], None] = self._cold.put
        self._known: dict[str, Names] = {}
        self._flusher: Flusher | None = None
        self._delivery: Delivery | None = None
        self._exiting = False

    # ---- events

    def record(self, event_type: str, event_data: Mapping[str, Any]) -> None:
        """Take one event. May raise; `mishap` then finds out why."""
        names = self._names.get(event_type)
        if names is None:
            self._record_first(event_type, event_data)
            return
        event = self._encoder.encode(event_type, event_data, names)
        if event is not None:
            self._put(event)

    def mishap(self, event_type: object, event_data: object, error: Exception) -> None:
        """`record` raised: count the event as dropped, or take it after all. Never raises."""
        try:
            if not isinstance(event_type, str) or not isinstance(event_data, Mapping):
                self._bad_call("track_event takes an event type (text) and a mapping")
                return
            # Another thread may have changed the mapping while it was read; a copy is taken in one step.
            self.record(str.__str__(event_type), dict(event_data))
        except Exception as again:
            kind = event_type if type(event_type) is str and event_type in SPELLINGS else UNKNOWN_TYPE
            self.counters.drop(kind, "unserialisable")
            say(
                logging.ERROR,
                "mishap",
                "an event could not be taken: %s, then %s",
                type(error).__name__,
                type(again).__name__,
            )

    def _record_first(self, event_type: str, event_data: Mapping[str, Any]) -> None:
        """An event in any state but "on", or of a type that was not seen before."""
        if self._state == "off":
            return
        if not isinstance(event_data, Mapping) or not _usable(event_type):
            self._bad_call("track_event takes an event type (printable text) and a mapping")
            return
        event_type = str.__str__(event_type)
        if self._state != "on":
            self._start()
            if self._names:
                self.record(event_type, event_data)
                return
        elif len(self._known) >= _MAX_TYPES:
            if (event := self._encoder.encode(event_type, event_data, self._policy.names(None))) is not None:
                self._put(event)
            return
        event_id, occurred_at = mint()
        try:
            kept = snapshot(event_data)
        except (TypeError, RecursionError, MemoryError):
            self.counters.drop(event_type, "unserialisable")
            return
        self._cold.put((event_type, kept, event_id, occurred_at))
        if self._exiting:
            self._round(closing=True)

    def _bad_call(self, message: str) -> None:
        self.counters.drop(UNKNOWN_TYPE, "bad_call")
        say_once(logging.WARNING, "bad call", "%s; the event was dropped", message)

    # ---- settings

    def configure(
        self,
        settings: "ProducerSettings",
        *,
        before_send: BeforeSend | None = None,
        credentials: "Credentials | None" = None,
    ) -> None:
        """Use these settings from now on, also for what waits for settings; what was tracked before is flushed."""
        _prepare(settings)
        if self._state == "on":
            self.close()
        with self._lock:
            self._use(settings, before_send, credentials)
            if self._state != "starting":
                self._state = "idle" if settings.on else "off"

    def _use(
        self, settings: "ProducerSettings", before_send: BeforeSend | None, credentials: "Credentials | None"
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._policy = Policy(
            extra=settings.allowed_extra,
            hmac_key=settings.hmac_key,
            before_send=before_send,
            keep_traceback=settings.keep_traceback,
            max_event_bytes=settings.max_event_bytes,
        )
        self._encoder = Encoder(self._policy, self.counters)
        self._known = {name: self._policy.names(spellings) for name, spellings in SPELLINGS.items()}

    def _load(self) -> None:
        """Read the settings, in the flusher's thread; wrong ones turn telemetry off."""
        with gate:
            from pydantic import ValidationError

            from birdfeed.settings import ProducerSettings, explain
        try:
            settings = ProducerSettings.load()
        except ValidationError as error:
            say_once(logging.ERROR, "settings", "telemetry is off: %s", explain(error))
            settings = ProducerSettings.model_construct(enabled=False)
        _prepare(settings)
        with self._lock:
            if self._settings is None:  # configure() may have come first
                self._use(settings, None, None)

    # ---- starting and stopping

    def start(self) -> None:
        """Start the flusher now rather than at the first event."""
        if self._state != "off":
            self._start()

    def _start(self) -> None:
        if self._settings is None and os.environ.get("BIRDFEED_DURABILITY", "").lower() == "spool":
            self._load()  # such an event must be on disk before track_event returns, so this one call waits
        with self._lock:
            if self._state == "on" and self._flusher is not None:
                return
            lifecycle.watch(self)
            if self._settings is not None and not self._settings.on:
                self._turn_off()
                return
            if self._flusher is None or not self._flusher.alive:
                self._start_thread()
            if self._settings is None:
                self._state = "starting"
            else:
                self._turn_on(self._settings)

    def _start_thread(self) -> None:
        if self._exiting:
            return
        flusher = Flusher(self._round, self._interval, self._wake)
        try:
            flusher.start()
        except RuntimeError:
            self._exiting = True  # the interpreter shuts down: from now on events are sent by the calling thread
            return
        self._flusher = flusher

    def _turn_on(self, settings: "ProducerSettings") -> None:
        buffer = self._memory(settings)
        self._put = buffer.put
        if settings.durability == "spool" and settings.spool_bytes:
            from birdfeed.durable import DurablePut

            self._put = DurablePut(settings, self.counters, buffer.put).put
        if settings.sigterm_hook:
            lifecycle.hook_sigterm()
        self._state = "on"
        if self._exiting:
            self._put = self._put_and_send
        self._names = self._known

    def _turn_off(self) -> None:
        self._state = "off"
        self._names = {}
        if self._settings is not None and self._settings.enabled:
            say_once(
                logging.WARNING,
                "off",
                "telemetry is off: no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL) to turn it on",
            )
        while self._cold.take(_COLD_EVENTS, _COLD_BYTES):
            pass

    def _put_and_send(self, event: tuple[str, bytes, int]) -> None:
        """The process is ending and has no flusher any more."""
        if self._buffer is not None:
            self._buffer.put(event)
        self._round(closing=True)

    def close(self, timeout: float | None = None) -> bool:
        """Send everything, within `timeout` seconds, and stop the flusher; a later event starts it again.

        Returns:
            Whether every event reached Redis or the spool; those that did not are counted as dropped, "closed".
        """
        with self._lock:
            flusher, state = self._flusher, self._state
            if state in ("idle", "off", "closed") and not len(self._cold):
                return True
            self._names = {}
            self._state = "closed"
        patience = self.patience(timeout)
        if flusher is not None and flusher.alive and not flusher.current:
            flusher.stop(patience)
        with self._lock:
            self._flusher = None
        return self._last_round(flusher)

    def _last_round(self, flusher: Flusher | None) -> bool:
        """After the flusher: what came in meanwhile, and what can't be placed."""
        stuck = flusher is not None and flusher.alive and not flusher.current
        if stuck:
            say(logging.ERROR, "closed", "Redis or the spool did not answer in time; events may be lost")
            return False
        try:
            safe = self._round(closing=True)
        except Exception as error:
            say(logging.ERROR, "internal", "the last flush failed: %s", type(error).__name__)
            safe = False
        if (delivery := self._delivery) is not None:
            if lost := delivery.give_up():
                say(logging.ERROR, "closed", "%d events were lost: neither Redis nor the spool took them", lost)
                safe = False
            self._delivery = None
            delivery.close()
        return safe

    def at_exit(self) -> None:
        """The process ends: close, and send whatever is still tracked by the calling thread."""
        self._exiting = True
        self.close()

    def after_fork(self) -> None:
        """In a forked child: the parent's events are the parent's; begin anew with its settings."""
        off = self._state == "off"
        _inherited.append((self._flusher, self._delivery))
        self._begin()
        if self._settings is not None:
            self._use(self._settings, self._policy.before_send, self._credentials)
        if off:
            self._state = "off"

    # ---- flushing

    def request_flush(self) -> "Future[bool]":
        """Ask for a flush; the future tells whether all events tracked before are in Redis or the spool."""
        with self._lock:
            flusher = self._flusher
            if self._state in ("idle", "off", "closed"):
                done: Future[bool] = Future()
                done.set_result(True)
                return done
            if flusher is None or not flusher.alive:
                self._start_thread()
                flusher = self._flusher
        if flusher is None:
            done = Future()
            done.set_result(self._round(closing=False))
            return done
        return flusher.request()

    def flush(self, timeout: float | None = None) -> bool:
        """Send what waits; whether all events tracked before are in Redis or the spool within `timeout` seconds."""
        try:
            return self.request_flush().result(self.patience(timeout))
        except TimeoutError:
            return False

    @property
    def configured(self) -> bool:
        """Whether the settings are known."""
        return self._settings is not None

    def patience(self, timeout: float | None) -> float:
        """Seconds a flush or close may take: `timeout`, else the setting."""
        if timeout is not None:
            return timeout
        return self._settings.close_timeout if self._settings is not None else _CLOSE_SECONDS

    def _interval(self) -> float:
        return self._settings.flush_interval if self._settings is not None else 0.0

    def _round(self, *, closing: bool) -> bool:
        """One round of the flusher: settings, then what waited for them, then delivery."""
        if self._settings is None:
            self._load()
        settings = self._settings
        if settings is None or not settings.on:
            with self._lock:
                self._turn_off()
            return True
        if self._delivery is None:
            self._delivery = self._build(settings)
        with self._lock:
            if self._state == "starting":
                self._turn_on(settings)
        self._thaw()
        return self._delivery.round(closing=closing) and not len(self._cold)

    def _build(self, settings: "ProducerSettings") -> "Delivery":
        with gate:  # imports redis
            from birdfeed.assemble import assemble
        with self._lock:
            return assemble(settings, self._memory(settings), self.counters, self._credentials)

    def _memory(self, settings: "ProducerSettings") -> Buffer:
        if self._buffer is None:
            self._buffer = Buffer(
                max_events=settings.buffer_events,
                max_bytes=settings.buffer_bytes,
                drop_policy=settings.drop_policy,
                counters=self.counters,
                wake=self._wake,
            )
        return self._buffer

    def _thaw(self) -> None:
        """Filter and write the events that waited for the settings, or for their type to be known."""
        while items := self._cold.take(1_000, _COLD_BYTES):
            for event_type, kept, event_id, occurred_at in items:
                names = self._known.get(event_type)
                if names is None:
                    names = self._meet(event_type)
                event = self._encoder.encode(event_type, orjson.loads(kept), names, (event_id, occurred_at))
                if event is not None and self._buffer is not None:
                    self._put(event)

    def _meet(self, event_type: str) -> Names:
        """The names of a type that is seen for the first time; types of other packages are looked up here."""
        spellings = None
        try:
            with gate:
                from birdfeed_schemas.registry import spellings_of

                spellings = spellings_of(event_type)
        except Exception as error:  # another package's fault, in its entry point
            say(logging.ERROR, "entry points", "event types of other packages can't be read: %s", type(error).__name__)
        if spellings is None:
            say_once(
                logging.WARNING,
                f"type {event_type}",
                "no event type %r is known here; where workers don't know it either, its events become dead letters",
                event_type,
            )
        names = self._policy.names(spellings)
        if len(self._known) < _MAX_TYPES:
            self._known[event_type] = names
        return names

    # ---- looking

    def stats(self) -> Stats:
        """What this producer has done so far."""
        counters = self.counters
        waiting = len(self._cold) + (len(self._buffer) if self._buffer is not None else 0)
        size = self._cold.size + (self._buffer.size if self._buffer is not None else 0)
        return Stats(
            state=self._state,
            redis=self._delivery.breaker.state if self._delivery is not None else "unknown",
            tracked=counters.taken + waiting + counters.refused(),
            buffered=waiting,
            buffered_bytes=size,
            enqueued=counters.enqueued,
            batches=counters.batches,
            spooled=counters.spooled,
            drained=counters.drained,
            dropped=counters.dropped(),
            dropped_fields=counters.dropped_fields,
            mended=counters.mended,
        )


#: What forked children inherited and must neither use nor close.
_inherited: list[tuple[Flusher | None, "Delivery | None"]] = []


def _prepare(settings: "ProducerSettings") -> None:
    """Import what these settings need, where no lock is held."""
    if settings.durability == "spool":
        with gate:
            import birdfeed.durable  # noqa: F401


def _usable(event_type: object) -> bool:
    return isinstance(event_type, str) and 0 < len(event_type) <= _TYPE_LENGTH and event_type.isprintable()
