"""Heartbeat: heartbeats and the lease on the jobs in flight, from a thread; and a watch on the delivery."""

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
from birdfeed_worker.queue.reserve import LeaseRenewer

log = logging.getLogger(__name__)

#: Seconds without a step forward after which a worker with jobs in flight ends itself: an event has it in an endless
#: loop. Longer than any request and than the search for such an event may take.
STALL_SECONDS: Final = 240.0
#: Exit code of a worker that ended itself so.
STALLED: Final = 70


def end_stalled() -> None:
    """Write what every thread was doing to standard error, and leave at once."""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(STALLED)


class Heartbeat(threading.Thread):
    """Says that the worker lives, and renews its lease, over connections of its own, however long the store takes.

    Args:
        renewer: Renews the lease.
        presence: The worker's entry in Redis.
        every: Seconds between two renewals, and between two heartbeats.
        beat_fd: Where a byte is written as a heartbeat for the launcher; None for nowhere.
        stall_seconds: See STALL_SECONDS.
        stalled: Called where no step was taken for so long.
    """

    def __init__(
        self,
        renewer: LeaseRenewer,
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
        """These are in flight now; none when the list is empty."""
        self._last_step = time.monotonic()
        self._jobs = jobs

    def step(self) -> None:
        """The delivery advanced."""
        self._last_step = time.monotonic()

    def run(self) -> None:
        """Until ended."""
        while not self._ended.wait(self._every):
            if self._beat_fd is not None:
                # A full pipe is a launcher that doesn't read; it has its own reasons.
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
        # Each by itself: neither may fail because the other does.
        self._try("renew the lease", lambda: self._renewer.renew(jobs))
        self._try("send a heartbeat", self._presence.beat)

    @staticmethod
    def _try(what: str, task: Callable[[], object]) -> None:
        try:
            task()
        except RedisError as error:
            log.warning("the worker can't %s: %s", what, type(error).__name__)

    def end(self) -> None:
        """Stop renewing; returns when nothing is under way, or after a second."""
        self._ended.set()
        if self.is_alive():
            self.join(1.0)
