"""The names of birdfeed's keys in Redis: rq's keys for birdfeed's queue, and birdfeed's own.

rq reads its prefix from the process's environment, which a producer in another program must not change; so the names
are computed here. A test compares them with rq's.
"""

from dataclasses import dataclass
from typing import Final

#: The function that every job runs. It is part of the wire contract and never renamed.
JOB_FUNCTION: Final = "birdfeed_worker.job.deliver"
#: Seconds without a heartbeat after which a worker no longer counts as alive.
SILENT_SECONDS: Final = 60.0

#: Fields that birdfeed adds to rq's job hash: the number of events, their type, and the batch's uncompressed bytes.
EVENTS_FIELD: Final = "bf_events"
TYPE_FIELD: Final = "bf_type"
BYTES_FIELD: Final = "bf_bytes"
#: On dead letters: the reason (a short code) under which the ledger counts them.
REASON_FIELD: Final = "bf_reason"
#: On dead letters: JSON to filter them by without unpacking them (fingerprint, attempts, times, replays). It is not in
#: rq's `meta`, because tools that expect pickle there would fail.
DEAD_FIELD: Final = "bf_dead"
#: Set before each POST and cleared when the job is settled: since when (epoch s) its rows may have been written.
MAYBE_WRITTEN_FIELD: Final = "bf_posted"
#: How often a worker reserved the job, and when first (epoch s).
ATTEMPTS_FIELD: Final = "bf_attempts"
#: How often a worker died while it had the job reserved; such a job goes through poison triage before delivery.
SUSPECT_FIELD: Final = "bf_suspect"
#: How often the job's outcome was unknown while its destination took other rows, and the seconds that this lasted.
UNKNOWNS_FIELD: Final = "bf_unknowns"
SPENT_FIELD: Final = "bf_spent"
FIRST_RESERVED_FIELD: Final = "bf_first_taken"


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under rq's `prefix` for one `queue`."""

    prefix: str
    queue: str

    @property
    def queue_list(self) -> str:
        """List of waiting job ids; new ones are added at the right."""
        return f"{self.prefix}:queue:{self.queue}"

    @property
    def queues(self) -> str:
        """Set of all queue lists; `rq info` reads it."""
        return f"{self.prefix}:queues"

    @property
    def started(self) -> str:
        """Sorted set of "job:execution" that workers have reserved, by the time (epoch s) their lease ends."""
        return f"{self.prefix}:wip:{self.queue}"

    @property
    def scheduled(self) -> str:
        """Sorted set of deferred jobs' ids, by the time (epoch s) they are due."""
        return f"{self.prefix}:scheduled:{self.queue}"

    @property
    def failed(self) -> str:
        """Sorted set of dead letters' job ids."""
        return f"{self.prefix}:failed:{self.queue}"

    @property
    def ledger(self) -> str:
        """Hash of counts: accepted:<type>, written:<type>, dead:<type>:<reason>, dropped:<type>:<reason>, ..."""
        return f"{self.prefix}:birdfeed:{self.queue}:ledger"

    @property
    def producers(self) -> str:
        """Sorted set of producers' ids, by the time of their last heartbeat (Redis's time, epoch s)."""
        return f"{self.prefix}:birdfeed:{self.queue}:producers"

    def producer(self, producer_id: str) -> str:
        """Hash of one producer's heartbeat, which expires a minute after the last beat.

        beat_at (Redis's time, epoch s), host, pid, version, buffered (events in memory), spooled_events, spooled_bytes,
        spooled_oldest_seconds, enqueued (events so far), dropped (JSON: reason → events).
        """
        return f"{self.prefix}:birdfeed:{self.queue}:producer:{producer_id}"

    def job(self, job_id: str) -> str:
        """Hash of a job."""
        return f"{self.prefix}:job:{job_id}"

    def done(self, batch_id: str) -> str:
        """Key that exists for a while after a batch was settled or a report counted, so that neither counts twice."""
        return f"{self.prefix}:birdfeed:{self.queue}:done:{batch_id}"

    def birdfeed(self, name: str) -> str:
        """Any other key of birdfeed's."""
        return f"{self.prefix}:birdfeed:{self.queue}:{name}"
