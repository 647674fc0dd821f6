"""The path of the data through a worker, one line per stage."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

from birdfeed_schemas.registry import EventType, registry

from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.model import NO_POISON, Decoded, Item, PoisonEvents, ReservedJob, Unreadable, release
from birdfeed_worker.monitoring.counters import Counters
from birdfeed_worker.pipeline.decode import chunks, decode
from birdfeed_worker.pipeline.enrich import Enricher, Valid
from birdfeed_worker.pipeline.settle import Settler, Totals
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pipeline.write import Writer, Writing
from birdfeed_worker.queue.trouble import is_unavailable
from birdfeed_worker.tinybird.row_layout import RowLayouts

log = logging.getLogger(__name__)

#: Reason of jobs on which birdfeed's own code failed although other jobs of their type were delivered.
INTERNAL_ERROR: Final = "internal_error"
#: Seconds that such a job waits if nothing of its type was delivered lately: then the job may not be the cause.
FAILED_WAIT: Final = 30.0
#: Seconds for which a delivery of a type shows that the code and Tinybird work for it.
LATELY: Final = 60.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """The stages; bootstrap.py wires them."""

    clock: Clock
    enricher: Enricher
    writer: Writer
    settler: Settler
    breaker: DeadLetterBreaker
    counters: Counters
    #: Which rows the tables take; None: rows that any table takes.
    layouts: RowLayouts | None = None
    #: Event type → when (monotonic s) rows of it were last written.
    written_at: dict[str, float] = field(default_factory=dict)

    def deliver(self, jobs: Sequence[ReservedJob], poison: PoisonEvents = NO_POISON) -> Totals:
        """Write the events of these jobs (of one reservation) to Tinybird; afterwards every job is settled.

        If that fails as a whole, each job is delivered alone, so that a job on which our code fails affects no others.
        `poison` are events that would kill this process.

        Raises:
            RedisError: Redis is away, full or refuses; the delivery can be repeated.
        """
        try:
            return self._deliver(jobs, poison)
        except Exception as error:
            if is_unavailable(error):
                raise
            log.exception("the delivery of %d jobs failed; delivering each of them alone", len(jobs))
        totals, failed = Totals(), list[tuple[ReservedJob, Exception]]()
        for job in self.settler.with_marks(jobs):
            try:
                totals.add(self._deliver([job], poison))
            except Exception as error:
                if is_unavailable(error):
                    raise
                failed.append((job, error))
        for job, why in failed:
            totals.add(self._settle_failed(job, why))
        return totals

    def _deliver(self, jobs: Sequence[ReservedJob], poison: PoisonEvents) -> Totals:
        began = self.clock.monotonic()
        decoded = Decoded()
        by_id = {job.id: job for job in jobs}
        tripped = self.breaker.tripped()
        awaiting_tiers: list[tuple[EventType, Valid]] = []
        with self.writer.delivery(by_id) as writing:
            for part in chunks(jobs):
                some = decode(part, poison, self.enricher.extra_fields)
                decoded.extend(some)
                self.breaker.defer(tripped, some.items, by_id)
                for event_type, valid in valid_by_type(some):
                    at_hand = self.enricher.tiers_in_cache(valid)
                    if at_hand is not None:
                        self._write(event_type, valid, writing, at_hand)
                    else:
                        awaiting_tiers.append((event_type, valid))
            if awaiting_tiers:
                # Users whose tiers are not cached are looked up together, so that a slow answer is waited for once.
                tiers = self.enricher.tiers(pair for _, valid in awaiting_tiers for pair in valid)
                for event_type, valid in awaiting_tiers:
                    self._write(event_type, valid, writing, tiers)
        counted = self.breaker.judge(decoded.items, by_id)
        totals = self.settler.settle(jobs, decoded, self.clock.now(), counted)
        self.counters.count(totals.counted, len(jobs), totals.lost, self.clock.monotonic() - began)
        if totals.written:
            self.written_at.update(dict.fromkeys({job.event_type for job in jobs}, self.clock.monotonic()))
        return totals

    def _settle_failed(self, job: ReservedJob, error: Exception) -> Totals:
        """Dead-letter a job on which our code fails; if the job may not be the cause, defer it."""
        (job,) = self.settler.with_marks([job])
        log.error("birdfeed's own code failed on job %s", job.id, exc_info=error)
        lately = self.clock.monotonic() - self.written_at.get(job.event_type, float("-inf")) < LATELY
        if lately and not self.breaker.judge_job(job, INTERNAL_ERROR):
            detail = f"birdfeed's own code failed on this job: {type(error).__name__}"
            decoded = Decoded(unreadable=[Unreadable(job, INTERNAL_ERROR, detail)])
        else:
            decoded = Decoded(failed=[(job, self.clock.time() + FAILED_WAIT)])
        return self.settler.settle([job], decoded, self.clock.now())

    def _write(self, event_type: EventType, valid: Valid, writing: Writing, tiers: Mapping[str, str]) -> None:
        datasource = event_type.datasource
        short = self.layouts is not None and self.layouts.is_short(datasource)
        self.enricher.enrich(event_type, valid, self.clock.now(), tiers, short=short)
        writing.add(datasource, [item for item, _ in valid if item.outcome is None])
        release(item for item, _ in valid)


def valid_by_type(decoded: Decoded) -> Iterator[tuple[EventType, Valid]]:
    """Valid events by type."""
    by_type: dict[str, list[Item]] = defaultdict(list)
    for header, of_a_job in groupby(decoded.items, attrgetter("header")):
        by_type[header.event_type] += of_a_job
    for name, items in by_type.items():
        valid = validate(name, items)
        if valid:
            yield registry()[name], valid
