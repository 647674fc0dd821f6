"""The client of one process: takes events and has them sent, with one configuration at a time.

It is always in one of these states, and changes state only under its lock:

             first event, start()              close()
      ┌────┐ ────────────────▶ ┌──────────────┐ ──────▶ ┌────────┐
      │idle│                   │on: a pipeline│         │ closed │
      └────┘ ◀──────────────── └──────────────┘ ◀────── └────────┘
         │       configure()                    next event
         │ first event, start(): no Redis, disabled, or wrong settings
         ▼
      ┌───┐  configure()
      │off│ ───────────▶ idle
      └───┘

Events are held in pipelines only, and each pipeline has its own flusher. In the state "on", one pipeline takes events.
When a pipeline is replaced or closed, the thread that did so ends it, while other threads track into the next. If a
thread puts an event into a pipeline that is just ending, one of two threads finds it: the one that ends the pipeline,
when it seals the buffer and empties it for the last time; or the tracking thread, which checks after each put whether
the buffer was sealed. Either passes the event to the pipeline that is on, and starts one if there is none. So no state
holds events that nothing will send.

Tracking an event takes no lock while the state is "on". Locks are re-entrant, because a signal handler or a __del__
may track an event anywhere. Settings are read from the environment at the first event, in microseconds.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from birdfeed_schemas.fields import SPELLINGS

from birdfeed.delivery.pipeline import Pipeline, load_factory
from birdfeed.encoding.allowlist import load_plugged_in, usable
from birdfeed.encoding.encoder import BeforeSend
from birdfeed.errors import ConfigurationError
from birdfeed.logging_once import error_location, log_once, log_throttled
from birdfeed.options import Options, options_from
from birdfeed.runtime import process_hooks
from birdfeed.runtime.fork_mark import mark
from birdfeed.stats import UNKNOWN_TYPE, Counters, Stats

if TYPE_CHECKING:
    from birdfeed.transport.connection import Credentials

State = Literal["idle", "on", "off", "closed"]

#: Seconds that closing may take if no settings are known.
_CLOSE_SECONDS: Final = 5.0
#: Seconds between checks, at exit, whether other threads have finished.
_LOOK_SECONDS: Final = 0.01


class Client:
    """See the module's docstring. Any method may be called from any thread; only `record` may raise."""

    def __init__(self) -> None:
        self._options: Options | None = None
        self._before_send: BeforeSend | None = None
        self._credentials: Credentials | None = None
        self._begin()
        process_hooks.watch(self)

    def _begin(self) -> None:
        """Reset the state, in a new client and in a forked child."""
        self._lock = threading.RLock()
        self._state: State = "idle"
        #: What is wrong with the settings, if that is why the state is "off".
        self._wrong = ""
        self._exiting = False
        self._pipeline: Pipeline | None = None
        #: Pipelines that are being ended.
        self._ending: list[Pipeline] = []
        self.counters = Counters()

    # ---- events

    def record(self, event_type: str, event_data: Mapping[str, Any]) -> str | None:
        """Take one event; returns its id, or None if it was dropped. May raise; then call `handle_failure`."""
        if not mark[0]:
            process_hooks.notice_fork()
        pipeline = self._pipeline
        if pipeline is None and (pipeline := self._taking(event_type)) is None:
            return None
        shape = pipeline.shapes.get(event_type)
        if shape is None:
            if not usable(event_type) or not isinstance(event_data, Mapping):
                self._count_bad_call()
                return None
            event_type = str.__str__(event_type)
            shape = pipeline.allowed.resolve(event_type)
        event = pipeline.encode(event_type, event_data, shape)
        if event is None:
            return None
        kept = pipeline.put(event)
        if pipeline.buffer.sealed:
            self._forward(pipeline.buffer.take_all())
        return event[4] if kept else None

    def handle_failure(self, event_type: object, event_data: object, error: Exception) -> str | None:
        """After `record` raised `error`: try once more, or count the event as dropped. Never raises an Exception."""
        try:
            if isinstance(event_type, str) and isinstance(event_data, Mapping):
                # Another thread may have changed the mapping while it was read; dict() copies it atomically.
                return self.record(str.__str__(event_type), dict(event_data))
            else:
                self._taking(UNKNOWN_TYPE)  # so that the drops reach the ledger even if every call is bad
                self._count_bad_call()
        except Exception as again:
            kind = event_type if type(event_type) is str and event_type in SPELLINGS else UNKNOWN_TYPE
            self.counters.drop(kind, "unserialisable")
            first, second = error_location(error), error_location(again)
            log_throttled(logging.ERROR, "failure", "an event could not be accepted: %s, then %s", first, second)
        return None

    def _count_bad_call(self) -> None:
        if self._state == "off" and not self._wrong:
            return
        self.counters.drop(UNKNOWN_TYPE, "bad_call")
        log_once(
            logging.WARNING,
            "bad call",
            "track_event takes an event type (printable text) and a mapping; an event was dropped (reason bad_call)",
        )

    def _forward(self, events: list[tuple[Any, ...]]) -> None:
        """Pass the events of a pipeline that has ended to the one that is on."""
        while events:
            pipeline = self._pipeline or self._taking(None)
            if pipeline is None:
                for event in events:
                    self.counters.taken += 1
                    self.counters.drop(event[0], "closed")
                return
            for event in events:
                pipeline.put(event)
            events = pipeline.buffer.take_all() if pipeline.buffer.sealed else []

    def _taking(self, event_type: str | None) -> Pipeline | None:
        """The pipeline that is on; one is started if there is none. None if telemetry is off."""
        if self._state == "off":
            if self._wrong and event_type is not None:
                kind = event_type if type(event_type) is str and event_type in SPELLINGS else UNKNOWN_TYPE
                self.counters.drop(kind, "misconfigured")
            return None
        with self._lock:
            if self._pipeline is None:
                self._turn_on()
            pipeline = self._pipeline
        return pipeline if pipeline is not None else self._taking(event_type)  # it has just turned off

    # ---- states

    def _turn_on(self) -> None:
        """Start a pipeline with the current settings, or turn off. Call with the lock held."""
        options = self._options
        if options is None:
            try:
                options = self._options = options_from(os.environ)
            except ConfigurationError as error:
                self._turn_off(str(error))
                return
        if not options.on:
            self._turn_off("", quietly=not options.enabled)
            return
        pipeline = Pipeline(
            options,
            self.counters,
            before_send=self._before_send,
            credentials=self._credentials,
        )
        # Before the start, so that a signal handler that tracks during it doesn't start a second one.
        self._pipeline = pipeline
        self._state = "on"
        process_hooks.watch_multiprocessing()
        if options.sigterm_hook:
            process_hooks.hook_sigterm()
        if self._exiting:
            pipeline.send_at_once()
        else:
            pipeline.start()

    def _turn_off(self, wrong: str, *, quietly: bool = False) -> None:
        """Call with the lock held. `wrong` says what is wrong with the settings, if that is the cause."""
        self._state = "off"
        self._wrong = wrong
        if wrong:
            log_once(logging.ERROR, f"settings {wrong}", "telemetry is off: %s", wrong)
        elif not quietly:
            log_once(
                logging.WARNING,
                "off",
                "telemetry is off: no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL) to turn it on",
            )

    def configure(
        self,
        options: Options,
        *,
        before_send: BeforeSend | None = None,
        credentials: "Credentials | None" = None,
    ) -> None:
        """Use these settings from now on. Events tracked before are flushed with the settings of that time."""
        process_hooks.notice_fork()
        with self._lock:
            self._options, self._before_send, self._credentials = options, before_send, credentials
            self._state, self._wrong = "idle", ""
            old = self._detached()
        if old is not None:
            self._end(old, old.options.close_timeout)

    @property
    def configuration(self) -> "tuple[Options | None, Credentials | None]":
        """The options that configure() set or the first event read (None before either), and the credentials."""
        return self._options, self._credentials

    @property
    def configured(self) -> bool:
        """Whether the settings are known."""
        return self._options is not None

    def start(self) -> None:
        """Start now instead of at the first event."""
        process_hooks.notice_fork()
        load_plugged_in()
        if self._taking(None) is not None:
            # The flusher imports this, too, and logs what fails. A server may fork right after this call, and must not
            # do so while the flusher is in the middle of that.
            with suppress(Exception):
                load_factory()

    def close(self, timeout: float | None = None) -> bool:
        """Send everything, within `timeout` seconds, and end the flusher; a later event starts it again.

        Returns:
            Whether every event reached Redis or the spool; the others are counted as dropped, with the reason "closed".
            False also if the settings are wrong.
        """
        process_hooks.notice_fork()
        if self._pipeline is not None and self._pipeline.current:
            return False  # called in the flusher's thread, by a hook of the program such as `credentials`
        with self._lock:
            if self._state == "idle" or self._state == "on":
                self._state = "closed"
            old = self._detached()
        if old is None:
            return not self._wrong
        return self._end(old, self.timeout_or_default(timeout))

    def _detached(self) -> Pipeline | None:
        """Remove the pipeline in order to end it. Call with the lock held."""
        old, self._pipeline = self._pipeline, None
        if old is not None:
            self._ending.append(old)
        return old

    def _end(self, old: Pipeline, timeout: float) -> bool:
        try:
            safe = old.finish(timeout)
            self._forward(old.buffer.seal())
            return safe
        finally:
            self._ending.remove(old)

    def at_exit(self) -> None:
        """Close because the process exits. An event tracked after this is sent by the thread that tracks it."""
        self._exiting = True
        deadline = time.monotonic() + self.timeout_or_default(None)
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.finish(self.timeout_or_default(None), exiting=True)
        while self._ending and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)  # other threads are ending these; they must finish before the process exits

    def after_fork(self) -> None:
        """In a forked child: leave the parent's events to the parent, and start again with its settings."""
        _inherited.append((self._pipeline, self._ending))
        off, wrong = self._state == "off", self._wrong
        self._begin()
        if off:
            self._state, self._wrong = "off", wrong

    # ---- flushing

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is buffered; returns whether all events are in Redis or the spool within `timeout` seconds."""
        deadline = time.monotonic() + self.timeout_or_default(timeout)
        try:
            safe = [one.result(max(0.0, deadline - time.monotonic())) for one in self.request_flush()]
        except TimeoutError:
            return False
        return all(safe)

    def request_flush(self) -> "list[Future[bool]]":
        """Request a flush; all futures are True if all events tracked before are in Redis or the spool."""
        process_hooks.notice_fork()
        with self._lock:
            pipelines = [*self._ending, *([self._pipeline] if self._pipeline is not None else [])]
            done = not self._wrong
        futures = []
        for pipeline in pipelines:
            if pipeline.current:  # called in the flusher's thread, which can't wait for itself
                futures.append(finished(False))
            elif pipeline.flusher is None:
                futures.append(finished(pipeline.round(closing=True)))
            else:
                futures.append(pipeline.flusher.request())
        return futures or [finished(done)]

    def timeout_or_default(self, timeout: float | None) -> float:
        """Seconds that a flush or close may take: `timeout`, or the setting if that is None."""
        if timeout is not None:
            return timeout
        return self._options.close_timeout if self._options is not None else _CLOSE_SECONDS

    # ---- counts

    def stats(self) -> Stats:
        """Counts of what this client has done so far."""
        process_hooks.notice_fork()
        with self._lock:
            pipelines = [*self._ending, *([self._pipeline] if self._pipeline is not None else [])]
            state = self._state
        return self.counters.stats(
            state=state,
            redis=pipelines[-1].redis if pipelines else "unknown",
            buffered=sum(len(pipeline.buffer) for pipeline in pipelines),
            buffered_bytes=sum(pipeline.buffer.size for pipeline in pipelines),
            in_flight=sum(pipeline.in_flight for pipeline in pipelines),
        )


def finished(safe: bool) -> "Future[bool]":
    """The future of a flush that has ended."""
    future: Future[bool] = Future()
    future.set_result(safe)
    return future


#: The parent's objects in a forked child. They are kept because they must be neither used nor closed there.
_inherited: list[tuple[object, ...]] = []
