"""How many jobs are waiting in the queue, in flight, or scheduled for later."""

from dataclasses import dataclass

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.scripts import script


@dataclass(frozen=True, slots=True)
class Depth:
    """Number of jobs by place, without dead letters."""

    queued: int
    started: int
    scheduled: int

    @property
    def total(self) -> int:
        """All jobs that are not dead letters."""
        return self.queued + self.started + self.scheduled


def depth(connection: Redis, keys: Keys) -> Depth:
    """Read the depth in one atomic step, so that a job that moves from one place to another is not missed."""
    return Depth(*script(connection, keys, "depth")())
