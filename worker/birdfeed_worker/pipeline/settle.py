"""Settle: record the outcomes of the jobs in flight in Redis, job by job, all in one step.

A job whose events are all written or dead is deleted; otherwise it shrinks to the remaining events and waits. Dead
letters and the ledger's counts change in the same step. A job that this worker no longer holds (its lease expired, and
another worker has it) is not changed: the other worker settles it.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import MAYBE_WRITTEN_FIELD, Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.dead_letters.record import DeadLetter, dead_letters, unreadable_letter
from birdfeed_worker.model import (
    UNREPLICATED,
    UNREPLICATED_SECONDS,
    Counted,
    Dead,
    Decoded,
    Deferred,
    Item,
    ReservedJob,
    Written,
    count_outcomes,
)
from birdfeed_worker.queue.codec import repack
from birdfeed_worker.queue.replicated import Replicated
from birdfeed_worker.queue.reply import as_text, epoch
from birdfeed_worker.queue.scripts import run_when_full, script

log = logging.getLogger(__name__)

#: Seconds for which a settled batch is remembered, so that a producer's late second enqueue of it is recognised.
REMEMBER_SECONDS: Final = 600
#: Seconds that a job of a newer wire version waits for a newer worker.
NEWER_VERSION_WAIT: Final = 30.0
#: Ids of batches, and of events, in one log line.
LOGGED_IDS: Final = 20
#: Jobs settled in one step.
JOBS_PER_STEP: Final = 200


@dataclass(slots=True)
class JobPlan:
    """What happens to one job: done, back (to the queue's front), at (a time), suspect (at a time, still a suspect).

    With new `data`, `events` and `size` are those that are left; of a job that is done, `events` is how many died.
    """

    job: ReservedJob
    action: str = "done"
    when: float = 0.0
    data: bytes = b""
    events: int = 0
    size: int = 0
    maybe_written_since: float | None = None


@dataclass(slots=True)
class Totals:
    """Events by outcome, for logs and metrics.

    `lost` counts jobs that another worker has; `counted` has the events of all other jobs, for the metrics.
    """

    written: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    deferred: int = 0
    lost: int = 0
    counted: Counted = field(default_factory=Counter, compare=False)

    def add(self, more: "Totals") -> None:
        """Add other totals."""
        self.written += more.written
        self.dead += more.dead
        self.deferred += more.deferred
        self.lost += more.lost
        self.counted += more.counted


class Settler:
    """Settles jobs for one worker.

    Args:
        wait_replicas: How many replicas must have a mark before rows are sent. Settling needs none: if a failover
            forgets it, the job is delivered again, and because of its mark Tinybird is asked first.
    """

    def __init__(self, connection: Redis, keys: Keys, worker: str, wait_replicas: int = 0) -> None:
        self._connection = connection
        self._keys = keys
        self._worker = worker
        self._wait_replicas = wait_replicas
        self._complained = False
        self._settle = script(connection, keys, "settle")
        self._mark = Replicated(script(connection, keys, "mark"), wait_replicas)

    def mark(self, execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        """Mark these jobs: their rows may be written from now on (by Redis's clock), until they are settled.

        Returns the ids of jobs whose rows must not be sent: another worker has them, or too few replicas have the mark.
        """
        lost, replicas = self._mark(self._worker, execution, *job_ids)
        if replicas < self._wait_replicas:
            found = f"{replicas} of {self._wait_replicas}"
            log.error(
                "only %s replicas have the note about the reserved jobs (%d); nothing is sent until enough do",
                found,
                len(job_ids),
            )
            with self._connection.pipeline(transaction=False) as pipe:
                pipe.set(self._keys.birdfeed(UNREPLICATED), found, ex=UNREPLICATED_SECONDS)
                run_when_full(self._connection, self._keys, pipe)
            self._complained = True
            return frozenset(job_ids)
        if self._complained:
            self._complained = False
            self._connection.delete(self._keys.birdfeed(UNREPLICATED))
        return frozenset(as_text(job_id) for job_id in lost)

    def with_marks(self, jobs: Sequence[ReservedJob]) -> list[ReservedJob]:
        """The same jobs with their current marks: their rows may have been sent since they were reserved."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.hget(self._keys.job(job.id), MAYBE_WRITTEN_FIELD)
            marks = [epoch(mark) for mark in pipe.execute()]
        return [
            job if mark is None else replace(job, maybe_written_since=mark)
            for job, mark in zip(jobs, marks, strict=True)
        ]

    def settle(
        self, jobs: Sequence[ReservedJob], decoded: Decoded, now: datetime, counted: Counted | None = None
    ) -> Totals:
        """Record the outcome of every event; returns the totals. `counted`: count_outcomes(decoded.items), if known."""
        totals = Totals()
        if len(jobs) <= JOBS_PER_STEP:
            self._step(jobs, decoded.items, decoded, now, totals, counted)
            return totals
        by_job = _by_job(decoded.items)
        for step in batched(jobs, JOBS_PER_STEP):
            items = [item for job in step for item in by_job.get(job.id, ())]
            self._step(step, items, decoded, now, totals)
        return totals

    def put_off(self, jobs: Sequence[ReservedJob], until: float) -> None:
        """Defer suspects, untried, until a time (epoch s); they stay suspects."""
        for step in batched(jobs, JOBS_PER_STEP):
            left = list(step)
            while left:
                plans = [JobPlan(job, "suspect", until, maybe_written_since=job.maybe_written_since) for job in left]
                lost = self._send(plans, Counter(), [])
                left = [job for job in left if job.id not in lost] if lost else []

    def _step(
        self,
        jobs: Sequence[ReservedJob],
        items: Sequence[Item],
        decoded: Decoded,
        now: datetime,
        totals: Totals,
        counted: Counted | None = None,
    ) -> None:
        newer = {job.id for job, _ in decoded.newer}
        failed = {job.id: until for job, until in decoded.failed}
        while jobs:
            ids = {job.id for job in jobs}
            if counted is None:
                counted = count_outcomes(items)
            # Where all are written, as nearly always, there is nothing to say of any event by itself.
            all_written = all(isinstance(outcome, Written) for _, outcome, _ in counted)
            unusual: Sequence[Item] = () if all_written else items
            by_job = _by_job(unusual)
            letters = dead_letters(unusual, {job.id: job.attempts for job in jobs}, now, self._keys.queue)
            letters += [
                unreadable_letter(bad, now, self._keys.queue) for bad in decoded.unreadable if bad.job.id in ids
            ]
            plans = [
                JobPlan(job, "at", now.timestamp() + NEWER_VERSION_WAIT, maybe_written_since=job.maybe_written_since)
                if job.id in newer
                else JobPlan(job, "suspect", failed[job.id], maybe_written_since=job.maybe_written_since)
                if job.id in failed
                else plan(job, by_job.get(job.id, ()))
                for job in jobs
            ]
            lost = self._send(plans, ledger_entries(counted, letters), letters)
            if not lost:
                count(totals, counted, letters)
                tell(letters)
                return
            log.warning(
                "this worker lost its lease on jobs (%d); the workers that have them now settle them", len(lost)
            )
            totals.lost += len(lost)
            jobs = [job for job in jobs if job.id not in lost]
            items = [item for item in items if item.job_id not in lost]
            counted = None

    def _send(self, plans: Sequence[JobPlan], entries: Counter[str], letters: Sequence[DeadLetter]) -> frozenset[str]:
        executions = {plan.job.execution for plan in plans}
        assert len(executions) == 1, "jobs of one reservation are settled together"
        args: list[Any] = [self._worker, executions.pop(), REMEMBER_SECONDS, len(plans)]
        for one in plans:
            args += [one.job.id, one.action, repr(one.when), one.data, one.events, one.size]
            args += [
                "" if one.maybe_written_since is None else repr(one.maybe_written_since),
                destination_of(one.job.event_type),
            ]
        args.append(len(entries))
        for name, amount in sorted(entries.items()):
            kind, _, event_type = name.partition(":")
            reason = ""
            if kind == "dead":
                event_type, colon, code = event_type.rpartition(":")
                reason = colon + code
            args += [kind, event_type, reason, amount]
        args.append(len(letters))
        for letter in letters:
            args += [letter.id, len(letter.fields), *chain.from_iterable(letter.fields.items())]
        return frozenset(as_text(job_id) for job_id in self._settle(*args))


def destination_of(event_type: str) -> str:
    """The data source of a type's rows; "" for an unregistered type."""
    known = registry().get(event_type)
    return "" if known is None else known.datasource


def plan(job: ReservedJob, items: Sequence[Item]) -> JobPlan:
    """What happens to a job, from the outcomes of its events. Pure."""
    left = [item for item in items if not isinstance(item.outcome, Written | Dead)]
    if not left:
        return JobPlan(job, events=sum(isinstance(item.outcome, Dead) for item in items))
    laters = [item.outcome for item in left if isinstance(item.outcome, Deferred)]
    until = max((deferred.until for deferred in laters), default=0.0)
    maybe_written_since = max(
        (deferred.maybe_written_since for deferred in laters if deferred.maybe_written_since is not None), default=None
    )
    made = JobPlan(job, "at" if until > 0 else "back", until, maybe_written_since=maybe_written_since)
    if len(left) < len(items):
        made.data, made.size = repack(left[0].header, [item.line for item in left])
        made.events = len(left)
    return made


def _by_job(items: Iterable[Item]) -> dict[str, list[Item]]:
    by_job: dict[str, list[Item]] = {}
    for job_id, run in groupby(items, attrgetter("job_id")):
        by_job.setdefault(job_id, []).extend(run)
    return by_job


def ledger_entries(counted: Counted, letters: Iterable[DeadLetter]) -> Counter[str]:
    """The ledger's changes: written by type, dead by type and reason, and accepted undone for double enqueues."""
    entries: Counter[str] = Counter()
    for (header, outcome, _), events in counted.items():
        if isinstance(outcome, Written):
            if outcome.duplicate_enqueue:
                entries[f"accepted:{header.event_type}"] -= events
            else:
                entries[f"written:{header.event_type}"] += events
    for letter in letters:
        entries[f"dead:{letter.header.event_type}:{letter.header.reason}"] += letter.header.count
    return entries


def tell(letters: Iterable[DeadLetter]) -> None:
    """Log one line for each dead letter, with ids by which its events can be found, but never their data."""
    for letter in letters:
        log.warning(
            "dead-lettered events: %d of type %s: %s: %s",
            letter.header.count,
            letter.header.event_type,
            letter.header.reason,
            letter.header.detail,
            extra={
                "dead_letter": letter.id,
                "reason": letter.header.reason,
                "batch_ids": sorted(letter.sources)[:LOGGED_IDS],
                "event_ids": list(letter.event_ids[:LOGGED_IDS]),
            },
        )


def count(totals: Totals, counted: Counted, letters: Iterable[DeadLetter]) -> None:
    """Add the counted outcomes to the totals."""
    totals.counted += counted
    for (_, outcome, _), events in counted.items():
        match outcome:
            case Written():
                totals.written += events
            case Dead():
                pass  # counted with its dead letter
            case _:
                totals.deferred += events
    for letter in letters:
        totals.dead[letter.header.reason] += letter.header.count
