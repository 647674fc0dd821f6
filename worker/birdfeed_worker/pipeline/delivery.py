"""The way of the data through a worker, one line per stage.

rq jobs name `birdfeed_worker.job.deliver`; that dotted path is a wire contract. birdfeed's worker doesn't call it job
by job: it takes many jobs and hands them to Delivery together.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from birdfeed_schemas.registry import EventType, registry

from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.model import NO_POISON, Decoded, Item, PoisonEvents, ReservedJob
from birdfeed_worker.monitoring.counters import Counters
from birdfeed_worker.pipeline.decode import chunks, decode
from birdfeed_worker.pipeline.enrich import Enricher, Valid
from birdfeed_worker.pipeline.settle import Settler, Totals
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pipeline.write import Writer, Writing


@dataclass(frozen=True, slots=True)
class Delivery:
    """The stages, wired by bootstrap.py."""

    clock: Clock
    enricher: Enricher
    writer: Writer
    settler: Settler
    breaker: DeadLetterBreaker
    counters: Counters

    def deliver(self, jobs: Sequence[ReservedJob], poison: PoisonEvents = NO_POISON) -> Totals:
        """Bring the events of these jobs (of one reservation) to the store; afterwards every job is settled.

        `poison` are events that would kill this process.
        """
        began = self.clock.monotonic()
        decoded = Decoded()
        by_id = {job.id: job for job in jobs}
        tripped = self.breaker.tripped()
        awaiting_tiers: list[tuple[EventType, Valid]] = []
        with self.writer.delivery(by_id) as writing:
            for part in chunks(jobs):
                some = decode(part, poison)
                decoded.extend(some)
                self.breaker.defer(tripped, some.items, by_id)
                for event_type, valid in _valid(some):
                    at_hand = self.enricher.tiers_in_cache(valid)
                    if at_hand is not None:
                        self._write(event_type, valid, writing, at_hand)
                    else:
                        awaiting_tiers.append((event_type, valid))
            if awaiting_tiers:
                # Users whose tiers nobody remembers: asked about together, so that a slow answer is waited for once.
                tiers = self.enricher.tiers(pair for _, valid in awaiting_tiers for pair in valid)
                for event_type, valid in awaiting_tiers:
                    self._write(event_type, valid, writing, tiers)
        self.breaker.judge(decoded.items, by_id)
        totals = self.settler.settle(jobs, decoded, self.clock.now())
        self.counters.count(decoded.items, len(jobs), totals.lost, self.clock.monotonic() - began)
        return totals

    def _write(self, event_type: EventType, valid: Valid, writing: Writing, tiers: Mapping[str, str]) -> None:
        self.enricher.enrich(event_type, valid, self.clock.now(), tiers)
        writing.add(event_type.datasource, [item for item, _ in valid if item.outcome is None])
        for item, _ in valid:
            item.release()


def _valid(decoded: Decoded) -> Iterator[tuple[EventType, Valid]]:
    """Valid events, by type."""
    by_type: dict[str, list[Item]] = defaultdict(list)
    for item in decoded.items:
        by_type[item.header.event_type].append(item)
    for name, items in by_type.items():
        valid = validate(name, items)
        if valid:
            yield registry()[name], valid
