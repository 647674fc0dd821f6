"""Canary: one event is replayed first; the others of its kind follow only if it is written."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock

#: Seconds between two checks.
LOOK_SECONDS: Final = 0.1


class Verdict(enum.Enum):
    """The outcome of the canary."""

    WRITTEN = "written"
    DIED = "died again"
    #: It still waits: no worker has taken it, or its data source is paused.
    NO_OUTCOME = "no outcome in time"


@dataclass(frozen=True, slots=True)
class Canary:
    """Waits for the outcome of a job of one event.

    Args:
        timeout: Seconds to wait for each.
    """

    connection: Redis
    keys: Keys
    timeout: float
    clock: Clock = field(default_factory=Clock)

    def wait(self, job_id: str, stop: Callable[[], bool] = lambda: False) -> Verdict:
        """The job's outcome, from the number of dead events that Redis keeps of a settled job."""
        deadline = self.clock.monotonic() + self.timeout
        while True:
            died = self.connection.get(self.keys.done(job_id))
            if died is not None:
                return Verdict.WRITTEN if int(died) == 0 else Verdict.DIED
            if stop() or self.clock.monotonic() >= deadline:
                return Verdict.NO_OUTCOME
            self.clock.sleep(LOOK_SECONDS)
