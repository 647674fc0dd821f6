"""Heartbeat: a thread that sends heartbeats, renews the lease on the jobs in flight, and watches the delivery."""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from birdfeed_schemas.tables.counted import counted
from redis.exceptions import RedisError

from birdfeed_worker.model import ReservedJob
from birdfeed_worker.process.presence import Presence
from birdfeed_worker.queue.reserve import Reserver

log = logging.getLogger(__name__)

#: Seconds without progress after which a worker with jobs in flight ends itself: an event may cause an endless loop.
#: Longer than any request and than the search for such an event may take.
STALL_SECONDS: Final = 240.0
#: Exit code of a worker that ended itself for this reason.
STALLED: Final = 70


def end_stalled() -> None:
    """Write the stack of every thread to standard error, and exit immediately."""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(STALLED)


class Heartbeat(threading.Thread):
    """Sends heartbeats and renews the lease, over its own connections, however long Tinybird takes to answer.

    Args:
        every: Seconds between two renewals, and between two heartbeats.
        beat_fd: Where a byte is written as a heartbeat for the launcher; None: nowhere.
        stall_seconds: See STALL_SECONDS.
        stalled: Called after that long without progress.
    """

    def __init__(
        self,
        renewer: Reserver,
        presence: Presence,
        every: float,
        beat_fd: int | None = None,
        stall_seconds: float = STALL_SECONDS,
        stalled: Callable[[], None] = end_stalled,
    ) -> None:
        super().__init__(name="birdfeed-heartbeat", daemon=True)
        self._renewer = renewer
        self._presence = presence
        self._every = every
        self._beat_fd = beat_fd
        self._stall_seconds = stall_seconds
        self._stalled = stalled
        self._jobs: list[ReservedJob] = []
        self._ended = threading.Event()
        self._last_step = time.monotonic()

    def watch(self, jobs: list[ReservedJob]) -> None:
        """Set the jobs that are in flight now."""
        self._last_step = time.monotonic()
        self._jobs = jobs

    def step(self) -> None:
        """Record that the delivery has made progress."""
        self._last_step = time.monotonic()

    def run(self) -> None:
        """Run until `end` is called."""
        while not self._ended.wait(self._every):
            if self._beat_fd is not None:
                # If the pipe is full, the launcher isn't reading; that is not this worker's problem.
                with suppress(OSError):
                    os.write(self._beat_fd, b".")
            self._look()

    def _look(self) -> None:
        jobs = self._jobs
        if jobs and time.monotonic() - self._last_step > self._stall_seconds:
            log.critical(
                "no progress for %.0f s with %s in flight; this worker exits",
                self._stall_seconds,
                counted(len(jobs), "job"),
            )
            self._stalled()
        # Separately, so that neither fails because the other does.
        self._try("renew the lease", lambda: self._renewer.renew(jobs))
        self._try("send a heartbeat", self._presence.beat)

    @staticmethod
    def _try(what: str, task: Callable[[], object]) -> None:
        try:
            task()
        except RedisError as error:
            log.warning("the worker can't %s: %s", what, type(error).__name__)

    def end(self) -> None:
        """Stop; returns when nothing is running, or after a second."""
        self._ended.set()
        if self.is_alive():
            self.join(1.0)
