"""Heartbeat: renew the lease on the jobs in flight while they are delivered, and watch that the delivery advances."""

import logging
import os
import threading
import time
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from birdfeed_worker.model import ReservedJob
from birdfeed_worker.queue.reserve import LeaseRenewer

log = logging.getLogger(__name__)

#: Seconds without a step forward after which a worker with jobs in flight ends itself: an event has it in an endless
#: loop. Longer than any request and than the search for such an event may take.
STALL_SECONDS: Final = 240.0
#: Exit code of a worker that ended itself so.
STALLED: Final = 70


class Heartbeat(threading.Thread):
    """Renews the lease on the jobs in flight, over a connection of its own, however long the store takes.

    Args:
        renewer: Renews the leases.
        every: Seconds between two renewals, and between two heartbeats.
        beat_fd: Where a byte is written as a heartbeat; None for nowhere.
        stall_seconds: See STALL_SECONDS.
    """

    def __init__(
        self, renewer: LeaseRenewer, every: float, beat_fd: int | None = None, stall_seconds: float = STALL_SECONDS
    ) -> None:
        super().__init__(name="birdfeed-heartbeat", daemon=True)
        self._renewer = renewer
        self._every = every
        self._beat_fd = beat_fd
        self._stall_seconds = stall_seconds
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
            jobs = self._jobs
            if not jobs:
                continue
            if time.monotonic() - self._last_step > self._stall_seconds:
                log.critical(
                    "%d jobs in flight and no step for %.0f s; this worker ends", len(jobs), self._stall_seconds
                )
                os._exit(STALLED)
            try:
                self._renewer.renew(jobs)
            except RedisError as error:
                log.warning("can't renew the lease on %d jobs: %s", len(jobs), type(error).__name__)

    def end(self) -> None:
        """Stop renewing."""
        self._ended.set()
