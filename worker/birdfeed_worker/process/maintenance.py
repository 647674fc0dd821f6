"""Maintenance: what a worker does now and then beside its work; none of it is urgent, and none may stop the work."""

import logging
from typing import Final

from redis import exceptions

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.retention import Retention
from birdfeed_worker.monitoring.counters import Sampler

log = logging.getLogger(__name__)

#: Seconds between two steps, so that a loop that spins fast over small jobs doesn't pay for it.
EVERY: Final = 0.5
#: Seconds until the next try after one failed.
RETRY_SECONDS: Final = 60.0


class Maintenance:
    """Applies retention to dead letters and takes samples.

    Args:
        retention: Keeps dead letters small.
        sampler: Keeps the samples that rates are read off.
        clock: Time.
    """

    def __init__(self, retention: Retention, sampler: Sampler, clock: Clock) -> None:
        self._retention = retention
        self._sampler = sampler
        self._clock = clock
        self._next = float("-inf")

    def step(self) -> None:
        """A little of whatever is due."""
        if self._clock.monotonic() < self._next:
            return
        self._next = self._clock.monotonic() + EVERY
        try:
            self._sampler.step()
            self._retention.step()
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            raise
        except exceptions.ResponseError as error:
            # A Redis that is full or read-only: the work itself says what it can't do.
            log.warning("maintenance failed: %s", error)
            self._next += RETRY_SECONDS
        except Exception:
            # A dead letter of somebody else's making, say. The work must not stop for that.
            log.exception("maintenance failed; trying again in %.0f s", RETRY_SECONDS)
            self._next += RETRY_SECONDS
