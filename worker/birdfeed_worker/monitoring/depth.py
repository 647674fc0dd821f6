"""How many jobs are where: waiting in the queue, in workers' hands, or scheduled for later."""

from dataclasses import dataclass

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.scripts import script


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs by where they are; dead letters are not among them."""

    queued: int
    started: int
    scheduled: int

    @property
    def total(self) -> int:
        """All jobs that are under way."""
        return self.queued + self.started + self.scheduled


def depth(connection: Redis, keys: Keys) -> Depth:
    """Read in one step: a job on its way from one place to the next must not be missed by looking at each in turn."""
    return Depth(*script(connection, "depth")(keys=[keys.queue_list], args=[keys.prefix, keys.queue]))
