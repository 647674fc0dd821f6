"""Maintenance: periodic tasks that a worker does besides its work. None is urgent, and none may stop the work."""

import logging
from dataclasses import dataclass, field
from typing import Final

from redis import exceptions

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.retention import Retention
from birdfeed_worker.monitoring.counters import Sampler

log = logging.getLogger(__name__)

#: Seconds between two steps, so that a fast loop over small jobs isn't slowed down.
EVERY: Final = 0.5
#: Seconds until the next try after a failure.
RETRY_SECONDS: Final = 60.0


@dataclass(slots=True)
class Maintenance:
    """Applies retention to dead letters and takes samples."""

    retention: Retention
    sampler: Sampler
    clock: Clock
    _next: float = field(init=False, default=float("-inf"))

    def step(self) -> None:
        """Do a small part of each task that is due."""
        if self.clock.monotonic() < self._next:
            return
        self._next = self.clock.monotonic() + EVERY
        try:
            self.sampler.step()
            self.retention.step()
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            raise
        except exceptions.ResponseError as error:
            # Redis may be full or read-only: the work itself reports what it can't do.
            log.warning("maintenance failed: %s", error)
            self._next += RETRY_SECONDS
        except Exception:
            # Perhaps a dead letter that birdfeed didn't write. The work must not stop because of it.
            log.exception("maintenance failed; trying again in %.0f s", RETRY_SECONDS)
            self._next += RETRY_SECONDS
