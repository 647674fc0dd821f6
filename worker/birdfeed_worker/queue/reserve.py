"""Reserve waiting jobs from the queue, as many as fit one delivery, in one step that a kill can't break."""

import logging
from collections.abc import Iterable
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

from birdfeed_worker.model import ReservedJob
from birdfeed_worker.queue.reply import as_text, number, pairs
from birdfeed_worker.queue.scripts import script

log = logging.getLogger(__name__)


class Reserver:
    """Reserves jobs for one worker and keeps its lease on them.

    Args:
        connection: Redis.
        keys: Names of the keys.
        worker: The worker's name.
        lease_seconds: How long a lease lasts if it isn't renewed.
    """

    def __init__(self, connection: Redis, keys: Keys, worker: str, lease_seconds: int) -> None:
        self._connection = connection
        self._keys = keys
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._reserve = script(connection, "reserve")
        self._recover = script(connection, "recover")
        self._promote = script(connection, "promote")

    def reserve(self, *, jobs: int, events: int, size: int) -> list[ReservedJob]:
        """Up to that many jobs, events and bytes; at least one job if any waits."""
        execution = uuid4().hex
        answer = self._reserve(
            keys=[self._keys.queue_list],
            args=[
                self._keys.prefix,
                self._keys.queue,
                self._worker,
                self._lease_seconds,
                jobs,
                events,
                size,
                execution,
            ],
        )
        return [_read_job(as_text(job_id), fields, execution) for job_id, fields in pairs(answer)]

    def wait(self, seconds: float) -> None:
        """Until a job waits, or the time is up. Moves nothing: a blocking look at the queue's head."""
        key = self._keys.queue_list
        self._connection.blmove(key, key, seconds, "LEFT", "LEFT")  # type: ignore[arg-type]

    def recover(self, worker: str = "", *, died: bool = True) -> list[str]:
        """Give back the jobs of a worker that is gone, or (no name) every job whose lease has run out.

        `died` of itself, that is, not because it was told to: then one of its jobs may have killed it, and all of them
        are looked at apart before they are delivered.
        """
        ids = self._recover(keys=[self._keys.queue_list], args=[self._keys.prefix, self._keys.queue, worker, int(died)])
        return [as_text(job_id) for job_id in ids]

    def promote(self) -> float | None:
        """Move scheduled jobs that are due to the queue; returns when the next one is due (epoch s), or None."""
        _, next_due = self._promote(keys=[self._keys.queue_list], args=[self._keys.prefix, self._keys.queue, 1_000])
        return float(next_due) if next_due else None


class LeaseRenewer:
    """Renews the lease on the jobs in flight, over a connection of its own."""

    def __init__(self, connection: Redis, keys: Keys, worker: str, lease_seconds: int) -> None:
        self._keys = keys
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._renew = script(connection, "renew")

    def renew(self, jobs: Iterable[ReservedJob]) -> int:
        """Extend the lease; returns how many of the jobs are still ours."""
        by_execution: dict[str, list[str]] = {}
        for job in jobs:
            by_execution.setdefault(job.execution, []).append(job.id)
        return sum(
            int(
                self._renew(
                    keys=[self._keys.started],
                    args=[self._keys.prefix, self._keys.queue, self._worker, self._lease_seconds, execution, *ids],
                )
            )
            for execution, ids in by_execution.items()
        )


def _read_job(job_id: str, flat: list[bytes], execution: str) -> ReservedJob:
    fields: dict[str, bytes] = {as_text(name): value for name, value in pairs(flat)}
    return ReservedJob(
        id=job_id,
        execution=execution,
        data=fields.get("data", b""),
        event_type=as_text(fields.get(TYPE_FIELD, b"unknown")),
        events=number(fields.get(EVENTS_FIELD), 1),
        size=number(fields.get(BYTES_FIELD), 0),
        attempts=number(fields.get(ATTEMPTS_FIELD), 1),
        first_reserved=float(fields.get(FIRST_RESERVED_FIELD, b"0")),
        maybe_written_since=float(fields[MAYBE_WRITTEN_FIELD]) if fields.get(MAYBE_WRITTEN_FIELD) else None,
        suspect=number(fields.get(SUSPECT_FIELD), 0),
        unknowns=number(fields.get(UNKNOWNS_FIELD), 0),
        spent=float(fields.get(SPENT_FIELD, b"0")),
    )
