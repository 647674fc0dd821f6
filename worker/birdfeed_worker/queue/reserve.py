"""Take waiting jobs from the queue, as many as fit one delivery, in one step that a kill can't break."""

import logging
from collections.abc import Iterable
from uuid import uuid4

from birdfeed_schemas.wire.keys import (
    ATTEMPTS_FIELD,
    BYTES_FIELD,
    EVENTS_FIELD,
    FIRST_TAKEN_FIELD,
    POSTED_FIELD,
    SPENT_FIELD,
    SUSPECT_FIELD,
    TYPE_FIELD,
    UNKNOWNS_FIELD,
    Keys,
)
from redis import Redis

from birdfeed_worker.model import TakenJob
from birdfeed_worker.queue.reply import as_text, number, pairs
from birdfeed_worker.queue.scripts import script

log = logging.getLogger(__name__)


class Taker:
    """Takes jobs for one worker and keeps its hold on them.

    Args:
        connection: Redis.
        keys: Names of the keys.
        worker: The worker's name.
        hold_seconds: How long a hold lasts if it isn't renewed.
    """

    def __init__(self, connection: Redis, keys: Keys, worker: str, hold_seconds: int) -> None:
        self._connection = connection
        self._keys = keys
        self._worker = worker
        self._hold = hold_seconds
        self._take = script(connection, "take")
        self._recover = script(connection, "recover")
        self._promote = script(connection, "promote")

    def take(self, *, jobs: int, events: int, size: int) -> list[TakenJob]:
        """Up to that many jobs, events and bytes; at least one job if any waits."""
        execution = uuid4().hex
        answer = self._take(
            keys=[self._keys.queue_list],
            args=[self._keys.prefix, self._keys.queue, self._worker, self._hold, jobs, events, size, execution],
        )
        return [_read_job(as_text(job_id), fields, execution) for job_id, fields in pairs(answer)]

    def wait(self, seconds: float) -> None:
        """Until a job waits, or the time is up. Moves nothing: a blocking look at the queue's head."""
        key = self._keys.queue_list
        self._connection.blmove(key, key, seconds, "LEFT", "LEFT")  # type: ignore[arg-type]

    def recover(self, worker: str = "", *, died: bool = True) -> list[str]:
        """Give back the jobs of a worker that is gone, or (no name) every job whose hold has run out.

        `died` of itself, that is, not because it was told to: then one of its jobs may have killed it, and all of them
        are looked at apart before they are delivered.
        """
        ids = self._recover(keys=[self._keys.queue_list], args=[self._keys.prefix, self._keys.queue, worker, int(died)])
        return [as_text(job_id) for job_id in ids]

    def promote(self) -> float | None:
        """Move scheduled jobs that are due to the queue; returns when the next one is due (epoch s), or None."""
        _, next_due = self._promote(keys=[self._keys.queue_list], args=[self._keys.prefix, self._keys.queue, 1_000])
        return float(next_due) if next_due else None


class Keeper:
    """Renews the hold on the jobs in hand, over a connection of its own."""

    def __init__(self, connection: Redis, keys: Keys, worker: str, hold_seconds: int) -> None:
        self._keys = keys
        self._worker = worker
        self._hold = hold_seconds
        self._renew = script(connection, "renew")

    def renew(self, jobs: Iterable[TakenJob]) -> int:
        """Prolong the hold; returns how many of the jobs are still ours."""
        by_execution: dict[str, list[str]] = {}
        for job in jobs:
            by_execution.setdefault(job.execution, []).append(job.id)
        return sum(
            int(
                self._renew(
                    keys=[self._keys.started],
                    args=[self._keys.prefix, self._keys.queue, self._worker, self._hold, execution, *ids],
                )
            )
            for execution, ids in by_execution.items()
        )


def _read_job(job_id: str, flat: list[bytes], execution: str) -> TakenJob:
    fields: dict[str, bytes] = {as_text(name): value for name, value in pairs(flat)}
    return TakenJob(
        id=job_id,
        execution=execution,
        data=fields.get("data", b""),
        event_type=as_text(fields.get(TYPE_FIELD, b"unknown")),
        events=number(fields.get(EVENTS_FIELD), 1),
        size=number(fields.get(BYTES_FIELD), 0),
        attempts=number(fields.get(ATTEMPTS_FIELD), 1),
        first_taken=float(fields.get(FIRST_TAKEN_FIELD, b"0")),
        posted=float(fields[POSTED_FIELD]) if fields.get(POSTED_FIELD) else None,
        suspect=number(fields.get(SUSPECT_FIELD), 0),
        unknowns=number(fields.get(UNKNOWNS_FIELD), 0),
        spent=float(fields.get(SPENT_FIELD, b"0")),
    )
