"""Write a delivery's rows to their data sources, in as few requests as possible, several at a time.

Rows are added as they are made: a full request is sent while the next one's rows are still being made.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from birdfeed_worker.chunks import batched
from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.flow.verification import Verification
from birdfeed_worker.model import Dead, Deferred, Item, ReservedJob, Written
from birdfeed_worker.pipeline.batch import Batcher
from birdfeed_worker.pipeline.send import Sender, set_outcome
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.lookup import IDS_PER_QUERY, find

log = logging.getLogger(__name__)

#: Seconds until a failed query is repeated.
ASK_AGAIN_SECONDS: Final = 30.0
GAVE_UP: Final = "its outcome stayed unknown for {hours:.1f} h while the store took other rows; it may be written"


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """Limits for writing.

    Rows and bytes (before compression) of one request; concurrent requests; seconds until Tinybird is asked after an
    unknown outcome; seconds of unknown outcomes, while the destination takes other rows, after which a job is given up.
    """

    rows: int
    bytes: int
    at_once: int = 1
    settle_seconds: float = 60.0
    give_up_after: float = 86_400.0


@dataclass(slots=True)
class Writer:
    """Writes rows to Tinybird for one worker process.

    Args:
        tinybird: Tinybird's client, to ask which events it has.
        step: Called when the delivery makes progress without sending.
        verification: Records whether Tinybird answers which events it has.
    """

    tinybird: Tinybird
    sender: Sender
    clock: Clock
    limits: WriteLimits
    step: Callable[[], None] = lambda: None
    verification: Verification | None = None
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.limits.at_once, thread_name_prefix="birdfeed-send")

    @contextmanager
    def delivery(self, jobs: Mapping[str, ReservedJob]) -> Iterator["Writing"]:
        """Takes rows in the block; after the block, each item that was added has an outcome.

        Args:
            jobs: Id → job, for the jobs of the items, all of one reservation.
        """
        writing = Writing(self, jobs)
        try:
            yield writing
            writing.finish()
        finally:
            writing.end()

    def submit(self, datasource: str, request: Sequence[Item], execution: str) -> "Future[None]":
        """Send a request in a thread."""
        return self._threads.submit(self.sender.send, datasource, request, execution)

    def batcher(self) -> Batcher:
        """A batcher with these limits."""
        return Batcher(self.limits.rows, self.limits.bytes)

    def parts(self, items: Sequence[Item], job: ReservedJob) -> Iterator[Sequence[Item]]:
        """Split a job that keeps failing although others don't into ever smaller parts.

        So a row that makes Tinybird time out is alone after a few tries, and the others are written; that row is given
        up in the end.
        """
        if job.spent >= self.limits.give_up_after:
            set_outcome(items, Dead("gave_up", GAVE_UP.format(hours=job.spent / 3600)))
            return
        size = max(1, len(items) // 2 ** min(job.unknowns - 1, 32))
        for start in range(0, len(items), size):
            batcher = self.batcher()
            yield from batcher.add(items[start : start + size])
            yield from batcher.rest()

    def ask(self, datasource: str, items: Sequence[Item], jobs: Mapping[str, ReservedJob]) -> Iterator[Item]:
        """Set the outcome of items that Tinybird already has; yields those that it doesn't have."""
        if not self.tinybird.can_read:
            yield from items
            return
        now = self.clock.time()
        ready = []
        for item in items:
            since = jobs[item.job_id].maybe_written_since
            if since is not None and now < since + self.limits.settle_seconds:
                item.outcome = Deferred(since + self.limits.settle_seconds, since)
            else:
                ready.append(item)
        for part in batched(ready, IDS_PER_QUERY):
            # Each part takes at least two queries, and a query may take as long as a request.
            self.step()
            if self.clock.stop.is_set():
                _keep_asking(part, jobs, now)
            else:
                yield from self._ask(datasource, part, jobs)

    def _ask(self, datasource: str, items: Sequence[Item], jobs: Mapping[str, ReservedJob]) -> list[Item]:
        now = self.clock.time()
        try:
            found = find(self.tinybird, datasource, list(_identities(items)))
        except QuotaError as error:
            log.warning("%s: read quota used up; events waiting to be verified: %d", datasource, len(items))
            self._tell(datasource, str(error), error.retry_after)
            _keep_asking(items, jobs, now + error.retry_after)
            return []
        except QueryError as error:
            log.warning("%s: can't ask what was written (%s); events waiting: %d", datasource, error, len(items))
            self._tell(datasource, str(error), ASK_AGAIN_SECONDS)
            _keep_asking(items, jobs, now + ASK_AGAIN_SECONDS)
            return []
        if self.verification is not None:
            self.verification.answered(datasource)
        missing = []
        for item in items:
            if item.event_id in found.written:
                duplicate_enqueue = item.header.retried and jobs[item.job_id].maybe_written_since is None
                item.outcome = Written(already_stored=True, duplicate_enqueue=duplicate_enqueue)
            elif item.event_id in found.quarantined and not (item.header.replay_id or item.header.reason):
                item.outcome = Dead("quarantined", found.quarantined[item.event_id])
            else:
                missing.append(item)
        return missing

    def _tell(self, datasource: str, reason: str, again_in: float) -> None:
        if self.verification is not None:
            self.verification.failed(datasource, reason, again_in)


class Writing:
    """The writing of one delivery; see Writer.delivery."""

    def __init__(self, writer: Writer, jobs: Mapping[str, ReservedJob]) -> None:
        self._writer = writer
        self._jobs = jobs
        self._unknown = {job.id for job in jobs.values() if job.unknowns}
        self._execution = next(iter(jobs.values())).execution if jobs else ""
        self._batchers: defaultdict[str, Batcher] = defaultdict(writer.batcher)
        self._asked: defaultdict[str, list[Item]] = defaultdict(list)
        self._troubled: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        self._under_way: list[Future[None]] = []

    def add(self, datasource: str, items: Sequence[Item]) -> None:
        """Add items with rows and without outcomes, for a data source."""
        asked = [item for item in items if item.verify]
        if asked:
            self._asked[datasource] += asked
            items = [item for item in items if not item.verify]
        self._add(datasource, items)

    def finish(self) -> None:
        """Send what is left, and wait for all answers. Raises what a request raised (Redis errors)."""
        for datasource, items in self._asked.items():
            self._add(datasource, self._writer.ask(datasource, items, self._jobs))
        for datasource, batcher in self._batchers.items():
            for last in batcher.rest():
                self._send(datasource, last)
        for (datasource, job_id), items in self._troubled.items():
            for part in self._writer.parts(items, self._jobs[job_id]):
                self._send(datasource, part)
        for future in self._under_way:
            future.result()

    def end(self) -> None:
        """Wait for all requests, whatever happened, before the jobs are settled or given back."""
        for future in self._under_way:
            future.cancel()
        wait(self._under_way)

    def _add(self, datasource: str, items: Iterable[Item]) -> None:
        """Send ordinary jobs together, and jobs that keep failing although others don't separately."""
        if self._unknown:
            items = list(items)
            for item in items:
                if item.job_id in self._unknown:
                    self._troubled[datasource, item.job_id].append(item)
            items = [item for item in items if item.job_id not in self._unknown]
        for full in self._batchers[datasource].add(items):
            self._send(datasource, full)

    def _send(self, datasource: str, request: Sequence[Item]) -> None:
        self._under_way.append(self._writer.submit(datasource, request, self._execution))


def _identities(items: Iterable[Item]) -> Iterator[tuple[str, datetime]]:
    for item in items:
        assert item.envelope is not None
        yield item.envelope.event_id, item.envelope.occurred_at


def _keep_asking(items: Sequence[Item], jobs: Mapping[str, ReservedJob], until: float) -> None:
    for item in items:
        item.outcome = Deferred(until, jobs[item.job_id].maybe_written_since)
