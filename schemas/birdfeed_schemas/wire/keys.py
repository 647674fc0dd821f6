"""The names of birdfeed's keys in Redis: rq's own, for our queue, and ours beside them.

rq reads its prefix from the environment of the whole process, so a producer inside somebody's web service must not
set it; this computes the names instead. A test compares them with rq's.
"""

from dataclasses import dataclass
from typing import Final

#: What every job of ours runs; part of the wire contract, never renamed.
JOB_FUNCTION: Final = "birdfeed_worker.job.deliver"
#: Seconds without a heartbeat after which a worker doesn't count as alive.
SILENT_SECONDS: Final = 60.0

#: Fields birdfeed adds to rq's job hash: events in the job, their type, bytes of the packed batch before compression.
EVENTS_FIELD: Final = "bf_events"
TYPE_FIELD: Final = "bf_type"
BYTES_FIELD: Final = "bf_bytes"
#: On dead letters: the reason (a short code) they are counted under in the ledger.
REASON_FIELD: Final = "bf_reason"
#: On dead letters: JSON by which they are filtered without being opened (fingerprint, attempts, times, replays). Not in
#: rq's `meta`, which tools that expect pickle fail on.
DEAD_FIELD: Final = "bf_dead"
#: Set before each POST, cleared when it is settled: when (epoch s) this job's rows may have been written.
MAYBE_WRITTEN_FIELD: Final = "bf_posted"
#: How often a worker took the job, and when first (epoch s).
ATTEMPTS_FIELD: Final = "bf_attempts"
#: How often a worker died with the job in hand; such a job is looked at apart before it is delivered.
SUSPECT_FIELD: Final = "bf_suspect"
#: How often the job's outcome was unknown while its destination took other rows, and the seconds that went by so.
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
        """List of waiting job ids; new ones at the right."""
        return f"{self.prefix}:queue:{self.queue}"

    @property
    def queues(self) -> str:
        """Set of all queue lists, by which `rq info` finds them."""
        return f"{self.prefix}:queues"

    @property
    def started(self) -> str:
        """Sorted set of "job:execution" that workers have reserved, by the time (epoch s) their lease ends."""
        return f"{self.prefix}:wip:{self.queue}"

    @property
    def scheduled(self) -> str:
        """Sorted set of job ids that wait, by the time (epoch s) they are due."""
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
        """Sorted set of the ids of producers that showed a heartbeat, by its time (Redis's, epoch s)."""
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
        """Exists for a while after a batch was settled (or a report counted), so that it isn't counted twice."""
        return f"{self.prefix}:birdfeed:{self.queue}:done:{batch_id}"

    def birdfeed(self, name: str) -> str:
        """Any other key of ours."""
        return f"{self.prefix}:birdfeed:{self.queue}:{name}"
