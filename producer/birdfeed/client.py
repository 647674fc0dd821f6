"""The producer of one process: takes events, filters and writes them, and has the flusher send them.

It is always in one state:

    idle ──first event──▶ starting ──settings known──▶ on ──close()──▶ closed ──next event──▶ on
                              └──no Redis configured──▶ off

Until the settings are known (reading them costs 100 ms and more, which no request may wait for) events are kept aside,
in memory only (cold.py); the flusher's thread reads the settings, and then filters, hashes and sends what waited. From
then on an event is filtered and written in the thread that tracks it, where that takes microseconds.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal

from birdfeed_schemas.fields import SPELLINGS

from birdfeed.buffering.buffer import Buffer
from birdfeed.buffering.cold import Cold
from birdfeed.delivery.flusher import Flusher
from birdfeed.encoding.allowlist import Allowed, usable
from birdfeed.encoding.encoder import BeforeSend, Encoder, Names, Policy
from birdfeed.logging_once import place, say, say_once
from birdfeed.runtime import process_hooks as lifecycle
from birdfeed.runtime.fork_lock import gate, sending
from birdfeed.stats import UNKNOWN_TYPE, Counters, Stats

if TYPE_CHECKING:
    from birdfeed.delivery.delivery import Delivery
    from birdfeed.delivery.write_through import DurablePut
    from birdfeed.settings import ProducerSettings
    from birdfeed.transport.connection import Credentials

State = Literal["idle", "starting", "on", "off", "closed"]

#: Seconds to close where the settings are not known.
_CLOSE_SECONDS: Final = 5.0
#: What pydantic reads as true.
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})


class Producer:
    """See the module. Any method may be called from any thread; only `configure` and `record` may raise."""

    def __init__(self) -> None:
        self._settings: ProducerSettings | None = None
        self._credentials: Credentials | None = None
        self._policy = Policy()
        self._begin()

    def _begin(self) -> None:
        """Fresh memory: in a new producer, and in a forked child."""
        self._state: State = "idle"
        self._exiting = False
        self.counters = Counters()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._cold = Cold(self.counters, self._wake)
        self._buffer = Buffer(counters=self.counters, wake=self._wake)
        self._put: Callable[[tuple[str, bytes, int]], None] = self._buffer.put
        self._encoder = Encoder(self._policy, self.counters)
        self._allowed = Allowed(self._policy)
        # What record looks types up in: empty in every state but "on", which sends each event the long way.
        self._names: dict[str, Names] = {}
        self._durable: DurablePut | None = None
        self._flusher: Flusher | None = None
        self._delivery: Delivery | None = None

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
        """`record` raised `error`: count the event as dropped, or take it after all. Never raises."""
        try:
            if isinstance(event_type, str) and isinstance(event_data, Mapping):
                # Another thread may have changed the mapping while it was read; a copy is made in one step.
                self.record(str.__str__(event_type), dict(event_data))
            else:
                self._bad_call()
        except Exception as again:
            kind = event_type if type(event_type) is str and event_type in SPELLINGS else UNKNOWN_TYPE
            self.counters.drop(kind, "unserialisable")
            first, second = place(error), place(again)
            say(logging.ERROR, "mishap", "an event could not be taken: %s, then %s", first, second)

    def _record_first(self, event_type: str, event_data: Mapping[str, Any]) -> None:
        """An event in any state but "on", or of a type that was not seen before."""
        if not self._wanted:
            return
        if not isinstance(event_data, Mapping) or not usable(event_type):
            self._bad_call()
            return
        event_type = str.__str__(event_type)
        if self._state != "on":
            self._start()
            if self._names:
                self.record(event_type, event_data)
                return
        elif self._allowed.full:
            if (event := self._encoder.encode(event_type, event_data, self._allowed.unknown())) is not None:
                self._put(event)
            return
        self._cold.keep(event_type, event_data)
        if not self._wanted:  # that became known meanwhile
            self._cold.forget()
        elif self._exiting:
            self._round(closing=True)

    def _bad_call(self) -> None:
        self.counters.drop(UNKNOWN_TYPE, "bad_call")
        say_once(
            logging.WARNING,
            "bad call",
            "track_event takes an event type (printable text) and a mapping; an event was dropped (reason bad_call)",
        )
        if self._state in ("idle", "closed"):
            self._start()  # a program all of whose calls are bad has its drops in the ledger, too

    def _put_and_send(self, event: tuple[str, bytes, int]) -> None:
        """The process is ending and has no flusher any more."""
        self._buffer.put(event)
        self._round(closing=True)

    # ---- settings

    @property
    def _wanted(self) -> bool:
        return self._state != "off"

    @property
    def configured(self) -> bool:
        """Whether the settings are known."""
        return self._settings is not None

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
                self._state = "idle"

    def _use(
        self, settings: "ProducerSettings", before_send: BeforeSend | None, credentials: "Credentials | None"
    ) -> None:
        self._credentials = credentials
        self._policy = Policy(
            extra=settings.allowed_extra,
            hmac_key=settings.hmac_key,
            before_send=before_send,
            keep_traceback=settings.keep_traceback,
            max_event_bytes=settings.max_event_bytes,
        )
        self._encoder = Encoder(self._policy, self.counters)
        self._allowed = Allowed(self._policy)
        self._buffer.bound(
            max_events=settings.buffer_events, max_bytes=settings.buffer_bytes, drop_policy=settings.drop_policy
        )
        self._put = self._buffer.put
        if settings.durability == "spool" and settings.spool_bytes and settings.on:
            from birdfeed.delivery.write_through import DurablePut

            self._durable = DurablePut(settings, self.counters, self._buffer.put)
            self._put = self._durable.put
        self._settings = settings

    def _load(self) -> "ProducerSettings":
        """Read the settings, in the flusher's thread; wrong ones turn telemetry off."""
        with gate:
            from birdfeed_schemas.settings import explain
            from pydantic import ValidationError

            from birdfeed.settings import ProducerSettings
        try:
            settings = ProducerSettings()
        except ValidationError as error:
            say_once(logging.ERROR, "settings", "telemetry is off: %s", explain(error))
            settings = ProducerSettings.model_construct(enabled=False)
        _prepare(settings)
        with self._lock:
            if self._settings is None:  # configure() may have come first
                self._use(settings, None, None)
        return self._settings or settings

    # ---- starting and stopping

    def start(self) -> None:
        """Start the flusher now rather than at the first event."""
        if self._wanted:
            self._start()

    def _start(self) -> None:
        # Two settings can't wait for the flusher's thread, so the environment is asked for them here.
        if self._settings is None and os.environ.get("BIRDFEED_DURABILITY", "").lower() == "spool":
            self._load()  # such an event must be on disk before track_event returns, so this one call waits
        if self._settings is None and os.environ.get("BIRDFEED_SIGTERM_HOOK", "").lower() in _TRUE:
            lifecycle.hook_sigterm()  # only the main thread may install it
        with self._lock:
            if self._state == "on":
                return
            lifecycle.watch(self)
            if self._settings is not None and not self._settings.on:
                self._turn_off(self._settings)
                return
            self._start_flusher()
            if self._settings is None:
                self._state = "starting"
            else:
                self._turn_on(self._settings)

    def _start_flusher(self) -> None:
        if self._exiting or (self._flusher is not None and self._flusher.alive):
            return
        flusher = Flusher(self._round, self._interval, self._wake)
        try:
            flusher.start()
        except RuntimeError:
            self._exiting = True  # the interpreter shuts down: from now on events are sent by the thread that tracks
            return
        self._flusher = flusher

    def _turn_on(self, settings: "ProducerSettings") -> None:
        if settings.sigterm_hook and not (self._flusher is not None and self._flusher.current):
            lifecycle.hook_sigterm()
        if self._exiting:
            self._put = self._put_and_send
        self._state = "on"
        self._names = self._allowed.known

    def _turn_off(self, settings: "ProducerSettings") -> None:
        self._state = "off"
        self._names = {}
        self._cold.forget()
        self._buffer.forget()
        if self._flusher is not None:
            self._flusher.end()
            self._flusher = None
        if settings.enabled and settings.redis_url is None:
            say_once(
                logging.WARNING,
                "off",
                "telemetry is off: no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL) to turn it on",
            )

    def close(self, timeout: float | None = None) -> bool:
        """Send everything, within `timeout` seconds, and stop the flusher; a later event starts it again.

        Returns:
            Whether every event reached Redis or the spool; those that did not are counted as dropped, "closed".
        """
        with self._lock:
            flusher = self._flusher
            if self._state in ("idle", "off", "closed") and not len(self._cold):
                return True
            self._names = {}
            self._state = "closed"
        if flusher is not None and not flusher.current and not flusher.stop(self.patience(timeout)):
            say(logging.ERROR, "closed", "Redis or the spool did not answer in time; events may be lost")
            return False
        with self._lock:
            self._flusher = None
        return self._last_round()

    def _last_round(self) -> bool:
        """After the flusher: take what came in meanwhile, and give up what can't be placed."""
        try:
            safe = self._round(closing=True)
        except Exception as error:
            say(logging.ERROR, "internal", "the last flush failed: %s", place(error))
            safe = False
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            if not safe and (lost := delivery.give_up()):
                say(logging.ERROR, "closed", "%d events were lost: neither Redis nor the spool took them", lost)
            delivery.close()
        if self._durable is not None:
            self._durable.close()
        return safe

    def at_exit(self) -> None:
        """The process ends: close; what is tracked after this is sent by the thread that tracks it."""
        self._exiting = True
        self.close()

    def after_fork(self) -> None:
        """In a forked child: the parent's events are the parent's; begin anew with its settings."""
        _inherited.append((self._flusher, self._delivery, self._durable))
        before_send = self._policy.before_send
        self._begin()
        if self._settings is not None:
            self._use(self._settings, before_send, self._credentials)

    # ---- flushing

    def flush(self, timeout: float | None = None) -> bool:
        """Send what waits; whether all events tracked before are in Redis or the spool within `timeout` seconds."""
        try:
            return self.request_flush().result(self.patience(timeout))
        except TimeoutError:
            return False

    def request_flush(self) -> "Future[bool]":
        """Ask for a flush; the future tells whether all events tracked before are in Redis or the spool."""
        with self._lock:
            if self._state in ("starting", "on"):
                self._start_flusher()
                if self._flusher is not None and self._flusher.alive:
                    return self._flusher.request()
                nothing = False
            else:
                nothing = True
        done: Future[bool] = Future()
        done.set_result(nothing or self._round(closing=False))
        return done

    def patience(self, timeout: float | None) -> float:
        """Seconds a flush or close may take: `timeout`, else the setting."""
        if timeout is not None:
            return timeout
        return self._settings.close_timeout if self._settings is not None else _CLOSE_SECONDS

    def _interval(self) -> float:
        return self._settings.flush_interval if self._settings is not None else 0.0

    def _round(self, *, closing: bool) -> bool:
        """One round of the flusher: settings, then what waited for them, then delivery."""
        with sending:
            return self._round_inside(closing)

    def _round_inside(self, closing: bool) -> bool:
        settings = self._settings or self._load()
        if not settings.on:
            with self._lock:
                self._turn_off(settings)
            return True
        delivery = self._delivery
        if delivery is None:
            try:
                with gate:  # this imports redis
                    from birdfeed.delivery.factory import assemble

                    delivery = self._delivery = assemble(settings, self._buffer, self.counters, self._credentials)
            except ValueError as error:
                say_once(logging.ERROR, "url", "telemetry is off: the Redis URL can't be read: %s", error)
                with self._lock:
                    self._use(settings.model_copy(update={"enabled": False}), None, None)
                    self._turn_off(settings)
                return True
        with self._lock:
            if self._state == "starting":
                self._turn_on(settings)
        self._cold.thaw(self._allowed, self._encoder, self._buffer.put if self._exiting else self._put)
        return delivery.round(closing=closing) and not len(self._cold)

    # ---- looking

    def stats(self) -> Stats:
        """What this producer has done so far."""
        return self.counters.stats(
            state=self._state,
            redis=self._delivery.breaker.state if self._delivery is not None else "unknown",
            buffered=len(self._cold) + len(self._buffer),
            buffered_bytes=self._cold.size + self._buffer.size,
        )


#: What forked children inherited; kept, because it must neither be used nor closed there.
_inherited: list[tuple[object, ...]] = []


def _prepare(settings: "ProducerSettings") -> None:
    """Import what these settings need, where no lock is held."""
    if settings.durability == "spool":
        with gate:
            import birdfeed.delivery.write_through  # noqa: F401
