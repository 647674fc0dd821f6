"""The way of the data through a worker, one line per stage.

rq jobs name `birdfeed_worker.job.deliver`; that dotted path is a wire contract. birdfeed's worker doesn't call it job
by job: it takes many jobs and hands them to Delivery together.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from birdfeed_schemas.registry import registry

from birdfeed_worker.clock import Clock
from birdfeed_worker.decode import NO_KILLERS, Decoded, Item, Killers, chunks, decode
from birdfeed_worker.enrich import Enricher
from birdfeed_worker.guard import Guard
from birdfeed_worker.settle import Settler, Totals
from birdfeed_worker.take import TakenJob
from birdfeed_worker.tally import Tally
from birdfeed_worker.validate import validate
from birdfeed_worker.write import Writer


@dataclass(frozen=True, slots=True)
class Delivery:
    """The stages, wired by bootstrap.py."""

    clock: Clock
    enricher: Enricher
    writer: Writer
    settler: Settler
    guard: Guard
    tally: Tally

    def deliver(self, jobs: Sequence[TakenJob], killers: Killers = NO_KILLERS) -> Totals:
        """Bring the events of these jobs (of one take) to the store; afterwards every job is settled.

        `killers` are events that would kill this process.
        """
        began = self.clock.monotonic()
        decoded = Decoded()
        by_id = {job.id: job for job in jobs}
        parked = self.guard.parked()
        self.enricher.begin()
        with self.writer.delivery(by_id) as writing:
            for part in chunks(jobs):
                some = decode(part, killers)
                self.guard.park(parked, some.items, by_id)
                for datasource, items in self._rows(some).items():
                    writing.add(datasource, items)
                decoded.extend(some)
        self.guard.judge(decoded.items, by_id)
        totals = self.settler.settle(jobs, decoded, self.clock.now())
        self.tally.count(decoded.items, len(jobs), totals.lost, self.clock.monotonic() - began)
        return totals

    def _rows(self, decoded: Decoded) -> dict[str, list[Item]]:
        """Valid events with their rows, by data source."""
        by_type: dict[str, list[Item]] = defaultdict(list)
        for item in decoded.items:
            by_type[item.header.event_type].append(item)
        rows: dict[str, list[Item]] = defaultdict(list)
        for name, items in by_type.items():
            valid = validate(name, items)
            if valid:
                event_type = registry()[name]
                self.enricher.enrich(event_type, valid, self.clock.now())
                rows[event_type.datasource].extend(item for item, _ in valid if item.outcome is None)
        for item in decoded.items:
            item.release()
        return rows


def deliver(packed: str) -> None:
    """What a job of birdfeed's names. Only birdfeed's own workers run it.

    Raises:
        RuntimeError: Always: a stock rq worker on this queue loses jobs at a kill and can't settle events one by one.
            The job fails, keeps its events, and `birdfeed dead replay` or `rq requeue` brings it back.
    """
    raise RuntimeError("birdfeed's jobs need birdfeed's workers: run `birdfeed worker`, then requeue this job")
