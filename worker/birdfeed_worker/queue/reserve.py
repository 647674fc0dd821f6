"""Reserve as many waiting jobs as fit into one delivery, in one atomic step."""

import logging
from collections.abc import Iterable
from typing import Final
from uuid import uuid4

from birdfeed_schemas.wire.keys import (
    ATTEMPTS_FIELD,
    BYTES_FIELD,
    EVENTS_FIELD,
    FIRST_RESERVED_FIELD,
    MAYBE_WRITTEN_FIELD,
    SPENT_FIELD,
    SUSPECT_FIELD,
    TYPE_FIELD,
    UNKNOWNS_FIELD,
    Keys,
)
from redis import Redis
from redis.exceptions import OutOfMemoryError

from birdfeed_worker.errors import SuspendedError
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.queue.reply import as_name, as_text, epoch, number, pairs, real
from birdfeed_worker.queue.scripts import script

log = logging.getLogger(__name__)

#: Queue entries, or leases, examined in one step, so that many entries without jobs don't block Redis.
ENTRIES: Final = 5_000
LEASES: Final = 1_000
#: More events than any job can hold.
MOST_EVENTS: Final = 1_000_000


class Reserver:
    """Reserves jobs for one worker and keeps its lease on them.

    Args:
        lease_seconds: How long a lease lasts if it isn't renewed.
    """

    def __init__(self, connection: Redis, keys: Keys, worker: str, lease_seconds: int) -> None:
        self._connection = connection
        self._keys = keys
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._reserve = script(connection, keys, "reserve")
        self._recover = script(connection, keys, "recover")
        self._promote = script(connection, keys, "promote")
        self._renew = script(connection, keys, "renew")

    def reserve(self, *, jobs: int, events: int, size: int) -> list[ReservedJob]:
        """Reserve up to that many jobs, events and bytes; at least one job if any waits.

        Raises:
            SuspendedError: `rq suspend` is in force.
            RedisError: Redis is away or refuses.
        """
        execution = uuid4().hex
        while True:
            more, *answer = self._reserve(self._worker, self._lease_seconds, jobs, events, size, execution, ENTRIES)
            if more == b"suspended":
                raise SuspendedError
            if answer or more != b"1":
                return [_read_job(as_text(job_id), fields, execution) for job_id, fields in pairs(answer)]

    def wait(self, seconds: float) -> bool:
        """Block until a job waits or the time is up, without moving a job; returns whether Redis could be asked.

        It returns False immediately if Redis refuses because it is full.
        """
        key = self._keys.queue_list
        try:
            self._connection.blmove(key, key, seconds, "LEFT", "LEFT")  # type: ignore[arg-type]
        except OutOfMemoryError:
            return False
        return True

    def recover(self, worker: str = "", *, died: bool = True) -> list[str]:
        """Give back the jobs of a worker that is gone, or (without a name) every job whose lease has expired.

        `died`: the worker ended unexpectedly, so that one of its jobs may have killed it: all of them go through poison
        triage before they are delivered.
        """
        back: list[str] = []
        while True:
            ids = self._recover(worker, int(died), LEASES)
            back += [as_text(job_id) for job_id in ids]
            if worker or len(ids) < LEASES:
                return back

    def promote(self) -> float | None:
        """Move scheduled jobs that are due to the queue; returns when the next one is due (epoch s), or None."""
        _, next_due = self._promote(1_000)
        return float(next_due) if next_due else None

    def renew(self, jobs: Iterable[ReservedJob]) -> int:
        """Extend the lease; returns how many of the jobs this worker still holds."""
        by_execution: dict[str, list[str]] = {}
        for job in jobs:
            by_execution.setdefault(job.execution, []).append(job.id)
        return sum(
            int(self._renew(self._worker, self._lease_seconds, execution, *ids))
            for execution, ids in by_execution.items()
        )


def _read_job(job_id: str, flat: list[bytes], execution: str) -> ReservedJob:
    """Read a job's hash strictly: an invalid field counts as missing.

    An exception is the write-ahead mark: if it is there but invalid, rows may have been written at any time.
    """
    fields: dict[bytes, bytes] = dict(pairs(flat))
    maybe_written_since = epoch(fields.get(MAYBE_WRITTEN_FIELD.encode()))
    if maybe_written_since is None and fields.get(MAYBE_WRITTEN_FIELD.encode()):
        maybe_written_since = 0.0
    return ReservedJob(
        id=job_id,
        execution=execution,
        data=fields.get(b"data", b""),
        event_type=as_name(fields.get(TYPE_FIELD.encode()), "unknown"),
        events=number(fields.get(EVENTS_FIELD.encode()), 1, MOST_EVENTS),
        size=number(fields.get(BYTES_FIELD.encode()), 0),
        attempts=number(fields.get(ATTEMPTS_FIELD.encode()), 1),
        first_reserved=epoch(fields.get(FIRST_RESERVED_FIELD.encode())) or 0.0,
        maybe_written_since=maybe_written_since,
        suspect=number(fields.get(SUSPECT_FIELD.encode()), 0),
        unknowns=number(fields.get(UNKNOWNS_FIELD.encode()), 0),
        spent=real(fields.get(SPENT_FIELD.encode()), 0.0, 1e9) or 0.0,
    )
