"""The thread that sends events: woken by a timer, or earlier by a flush or when the buffer fills.

It uses a timer, not a queue with a blocking `get`: with a queue, every track_event would wake a thread, which costs ten
times as much as the call itself.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from birdfeed.logging_once import error_location, log_throttled
from birdfeed.runtime.wake import Wake

#: Seconds between rounds while a stop waits for Redis or the spool.
_STOPPING_PAUSE: Final = 0.05
#: Share of the stop timeout in which another round may begin; the rest is left for that round to end.
_TRYING_SHARE: Final = 0.8


class Round(Protocol):
    """One round of delivery."""

    def __call__(self, *, closing: bool) -> bool:
        """Run it; returns whether nothing is left in memory."""


class Flusher:
    """A daemon thread that calls `one_round` every `interval` seconds."""

    def __init__(self, one_round: Round, interval: float, wake: Wake, prepare: Callable[[], None]) -> None:
        """Setting `wake` starts the next round immediately; the thread calls `prepare` before the first round."""
        self._round = one_round
        self._interval = interval
        self._wake = wake
        self._prepare = prepare
        self._requests: deque[Future[bool]] = deque()
        self._stop_at: float | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="birdfeed-flusher", daemon=True)

    def start(self) -> None:
        """Start the thread; raises RuntimeError if the interpreter is shutting down."""
        self._thread.start()

    @property
    def current(self) -> bool:
        """Whether the caller is the thread itself."""
        return threading.current_thread() is self._thread

    def request(self) -> "Future[bool]":
        """Request a round now; the future is True if nothing tracked before is left in memory."""
        done: Future[bool] = Future()
        self._requests.append(done)
        self._wake.set()
        # Checked after adding the request: the thread sets _over before it looks at the requests for the last time.
        if self._over or not self._thread.is_alive():
            self._answer(self._taken_requests(), safe=False)
        return done

    def stop(self, timeout: float) -> bool:
        """Let the thread do its last round, for at most `timeout` seconds; returns whether it has ended."""
        self._stop_at = time.monotonic() + timeout * _TRYING_SHARE
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            log_throttled(logging.ERROR, "internal", "preparing to send failed: %s", error_location(error))
        first = True
        while True:
            at_once = first or self._stop_at is not None
            self._wake.wait(0 if at_once else self._interval)
            first = False
            if self._once():
                break
        self._over = True
        self._answer(self._taken_requests(), safe=False)

    def _once(self) -> bool:
        """Do one round; returns whether it was the last."""
        stop_at = self._stop_at
        requests = self._taken_requests()
        safe = False
        try:
            safe = self._round(closing=stop_at is not None)
        except Exception as error:
            # A bug of ours must not end the thread: the events are still in the buffer or in flight.
            log_throttled(logging.ERROR, "internal", "a flush failed: %s; trying again", error_location(error))
        self._answer(requests, safe=safe)
        if stop_at is None:
            return False
        if not safe and time.monotonic() < stop_at:
            time.sleep(_STOPPING_PAUSE)
            return False
        return not self._requests

    def _taken_requests(self) -> "list[Future[bool]]":
        taken = []
        while self._requests:
            try:
                taken.append(self._requests.popleft())
            except IndexError:  # another thread took it
                break
        return taken

    def _answer(self, requests: "list[Future[bool]]", *, safe: bool) -> None:
        for done in requests:
            if done.set_running_or_notify_cancel():  # the caller may have stopped waiting
                done.set_result(safe)
