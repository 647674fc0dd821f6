"""Write: rows to one data source in as few requests as possible, until every event has an outcome.

Decisions are retry.py's; here they are carried out: wait, halve, bisect, ask what was written, give back.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from birdfeed_schemas.envelope import Envelope

from birdfeed_worker.clock import Clock
from birdfeed_worker.decode import Item
from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.outcomes import Dead, Later, Written
from birdfeed_worker.pace import Pacer
from birdfeed_worker.retry import Answer, Bisect, Done, Halve, Pause, SetAside, Unknown, Wait, decide
from birdfeed_worker.take import TakenJob
from birdfeed_worker.tinybird import Tinybird
from birdfeed_worker.verify import find, find_quarantined

log = logging.getLogger(__name__)

#: Tinybird refuses an insert that touches more monthly partitions than this.
MAX_PARTITIONS: Final = 12
GAVE_UP: Final = "its outcome stayed unknown for {hours:.1f} h while the store took other rows; it may be written"
#: Waits up to this many seconds are waited with the jobs in hand; longer ones give them back.
SHORT_WAIT: Final = 2.0
#: Tries of identical bytes in one go after an unknown outcome, where nobody can be asked (no read token).
BLIND_TRIES: Final = 3
#: Single rows refused with 400, with no row taken meanwhile, after which no row is to blame but the destination.
REFUSED_ROWS_UNTIL_PAUSE: Final = 8


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """What bounds the writing.

    Rows and bytes (before compression) of one request; requests spent on bisecting one; seconds until Tinybird is asked
    after an unknown outcome; seconds of unknown outcomes, while the destination takes other rows, after which a job is
    given up.
    """

    rows: int
    bytes: int
    bisect_requests: int
    settle_seconds: float
    give_up_after: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was refused with 400 alone; whether the store had taken other rows of the same request by then."""

    item: Item
    reason: str
    after_success: bool


class Writer:
    """Writes rows to Tinybird for one worker process.

    Args:
        tinybird: The store.
        pacer: The pool's limiter.
        clock: Time, and the sleep that ends when the worker is told to stop.
        limits: See WriteLimits.
        mark: Called before each request with the take's execution id and the ids of the jobs whose rows it holds;
            notes in Redis that they may be written from now on, and returns those that another worker has by now.
    """

    def __init__(
        self,
        tinybird: Tinybird,
        pacer: Pacer,
        clock: Clock,
        limits: WriteLimits,
        mark: Callable[[str, Sequence[str]], frozenset[str]],
    ) -> None:
        self._tinybird = tinybird
        self._pacer = pacer
        self._clock = clock
        self._limits = limits
        self._mark = mark

    def write(self, datasource: str, items: Sequence[Item], jobs: Mapping[str, TakenJob]) -> None:
        """Give every item an outcome.

        Args:
            datasource: Where the rows go.
            items: Items with rows and no outcome yet.
            jobs: The jobs they came with, all of one take, by id.
        """
        fresh = [item for item in items if not item.verify]
        asked = [item for item in items if item.verify]
        if asked:
            fresh.extend(self._ask(datasource, asked, jobs))
        for request in self._requests(fresh, jobs):
            if self._clock.stop.is_set():
                _set(request, Later())
            else:
                self._send(datasource, request, jobs[request[0].job_id].execution)

    def _requests(self, items: Sequence[Item], jobs: Mapping[str, TakenJob]) -> Iterator[Sequence[Item]]:
        """Ordinary jobs together; jobs that keep failing where others don't, apart and in ever smaller parts.

        So a row that makes the store time out is alone after a few tries, and its neighbours are written; the row
        itself is given up in the end.
        """
        troubled: dict[str, list[Item]] = {}
        ordinary: list[Item] = []
        for item in items:
            if jobs[item.job_id].unknowns:
                troubled.setdefault(item.job_id, []).append(item)
            else:
                ordinary.append(item)
        yield from requests(ordinary, self._limits)
        for job_id, part in troubled.items():
            job = jobs[job_id]
            if job.spent >= self._limits.give_up_after:
                _set(part, Dead("gave_up", GAVE_UP.format(hours=job.spent / 3600)))
                continue
            size = max(1, len(part) // 2 ** min(job.unknowns - 1, 32))
            for start in range(0, len(part), size):
                yield from requests(part[start : start + size], self._limits)

    def _ask(self, datasource: str, items: Sequence[Item], jobs: Mapping[str, TakenJob]) -> list[Item]:
        """Settle what the store already has; returns the items it doesn't have."""
        if not self._tinybird.can_read:
            return list(items)
        now = self._clock.time()
        ready = []
        for item in items:
            since = jobs[item.job_id].posted
            if since is not None and now < since + self._limits.settle_seconds:
                item.outcome = Later(since + self._limits.settle_seconds, since)
            else:
                ready.append(item)
        if not ready:
            return []
        try:
            found = find(self._tinybird, datasource, [(e.event_id, e.occurred_at) for e in _envelopes(ready)])
        except QuotaError as error:
            log.warning("%s: read quota used up; %d events wait to be verified", datasource, len(ready))
            _keep_asking(ready, jobs, now + error.retry_after)
            return []
        except QueryError as error:
            log.warning("%s: can't ask what was written (%s); %d events wait", datasource, error, len(ready))
            _keep_asking(ready, jobs, now + 30.0)
            return []
        missing = []
        for item, envelope in zip(ready, _envelopes(ready), strict=True):
            if envelope.event_id in found.written:
                double = item.header.retried and jobs[item.job_id].posted is None
                item.outcome = Written(before=True, double=double)
            elif envelope.event_id in found.quarantined and not (item.header.replay_id or item.header.reason):
                item.outcome = Dead("quarantined", found.quarantined[envelope.event_id])
            else:
                missing.append(item)
        return missing

    def _send(self, datasource: str, items: Sequence[Item], execution: str) -> None:
        """One request, and what follows from its answer, until each of the items has an outcome."""
        waiting: deque[Sequence[Item]] = deque([items])
        budget, taken, refused = self._limits.bisect_requests, False, list[Refused]()
        while waiting:
            part = waiting.popleft()
            part = self._admitted(datasource, part, execution)
            if not part:
                continue
            answer = self._post(datasource, part)
            decision = decide(answer, len(part))
            match decision:
                case Done():
                    taken = True
                    self._pacer.opened(datasource)
                    _set(part, Written())
                case SetAside(rows):
                    taken = True
                    self._pacer.opened(datasource)
                    self._set_aside(datasource, part, rows)
                case Wait(seconds, reason):
                    closed = self._pacer.closed(datasource, seconds, reason)
                    log.warning("%s: %s; waiting %.1f s", datasource, reason, closed)
                    _set(part, Later(self._clock.time() + closed))
                case Pause(reason):
                    closed = self._pacer.paused(datasource, reason)
                    log.error("%s: paused: %s; probing again in %.0f s", datasource, reason, closed)
                    _set(part, Later(self._clock.time() + closed))
                case Halve(reason):
                    if len(part) == 1:
                        part[0].outcome = Dead("too_large", f"one row is over the store's limit: {reason}")
                    else:
                        waiting.extendleft(reversed(halves(part)))
                case Bisect(reason):
                    budget -= 1
                    if len(part) == 1:
                        refused.append(Refused(part[0], reason, after_success=taken))
                    elif budget > 0 and (taken or len(refused) < REFUSED_ROWS_UNTIL_PAUSE):
                        waiting.extendleft(reversed(halves(part)))
                    else:
                        self._refuse_all(datasource, part, reason)
                case Unknown(reason):
                    now = self._clock.time()
                    log.warning("%s: outcome unknown (%s) for %d rows", datasource, reason, len(part))
                    closed = self._pacer.closed(datasource, None, reason)
                    wait = self._limits.settle_seconds if self._tinybird.can_read else closed
                    _set(part, Later(now + wait, now))
        self._condemn(datasource, refused, taken, len(items), execution)

    def _admitted(self, datasource: str, part: Sequence[Item], execution: str) -> Sequence[Item]:
        """The items to send once the limiter lets the request through; the others have been given back."""
        size = sum(len(item.row) + 1 for item in part)
        while True:
            wait, reason = self._pacer.admit(datasource, size)
            if wait <= 0:
                break
            if wait > SHORT_WAIT or self._clock.sleep(wait):
                log.debug("%s: %d rows wait %.1f s (%s)", datasource, len(part), wait, reason)
                _set(part, Later(self._clock.time() + wait))
                return ()
        lost = self._mark(execution, sorted({item.job_id for item in part}))
        if lost:
            _set([item for item in part if item.job_id in lost], Later())
            part = [item for item in part if item.job_id not in lost]
        return part

    def _post(self, datasource: str, part: Sequence[Item]) -> Answer:
        """One POST; where nobody can be asked about an unknown outcome, the identical bytes a few times more."""
        body = self._tinybird.encode(item.row for item in part)
        answer = self._tinybird.append(datasource, body)
        if self._tinybird.can_read:
            return answer
        for attempt in range(1, BLIND_TRIES):
            if not isinstance(decide(answer, len(part)), Unknown) or self._clock.sleep(0.5 * 2**attempt):
                break
            # Nobody to ask: Tinybird may recognise identical bytes, and nothing else would.
            answer = self._tinybird.append(datasource, body)
        return answer

    def _set_aside(self, datasource: str, part: Sequence[Item], rows: int) -> None:
        """Tinybird says how many rows it quarantined, never which: read them back."""
        try:
            found = find_quarantined(self._tinybird, datasource, [e.event_id for e in _envelopes(part)])
        except (QuotaError, QueryError) as error:
            if rows == len(part):
                _set(part, Dead("quarantined", "every row of the request was quarantined; the reasons can't be read"))
                return
            # The rows are in the store either way and must not be sent again: verification finds out which.
            log.warning("%s: %d of %d rows quarantined, asking later which (%s)", datasource, rows, len(part), error)
            if not self._tinybird.can_read:
                _set(part, Written())
                return
            now = self._clock.time()
            _set(part, Later(now + self._limits.settle_seconds, now))
            return
        log.error("%s: %d of %d rows quarantined by Tinybird", datasource, rows, len(part))
        for item, envelope in zip(part, _envelopes(part), strict=True):
            why = found.get(envelope.event_id)
            item.outcome = Written() if why is None else Dead("quarantined", why)

    def _refuse_all(self, datasource: str, part: Sequence[Item], reason: str) -> None:
        closed = self._pacer.paused(datasource, f"every request is refused: {reason}")
        log.error("%s: paused: every request is refused: %s", datasource, reason)
        _set(part, Later(self._clock.time() + closed))

    def _condemn(self, datasource: str, refused: Sequence[Refused], taken: bool, rows: int, execution: str) -> None:
        """Rows refused alone are to blame, unless the store refused everything at that time."""
        if not taken and rows > 1 and len(refused) >= min(rows, REFUSED_ROWS_UNTIL_PAUSE):
            self._refuse_all(datasource, [one.item for one in refused], refused[0].reason)
            return
        for one in refused:
            if taken and not one.after_success:
                # The store took nothing yet when it refused this row; now that it does, the row gets another chance.
                self._send(datasource, [one.item], execution)
            else:
                one.item.outcome = Dead("rejected", one.reason)


def requests(items: Sequence[Item], limits: WriteLimits) -> Iterator[list[Item]]:
    """Cut rows into requests: by rows, by bytes, and at most MAX_PARTITIONS months each."""
    part: list[Item] = []
    size, months = 0, set[tuple[int, int]]()
    for item in sorted(items, key=lambda item: _month(item)) if _spread(items) else items:
        month = _month(item)
        full = len(part) >= limits.rows or size + len(item.row) + 1 > limits.bytes
        if part and (full or (month not in months and len(months) >= MAX_PARTITIONS)):
            yield part
            part, size, months = [], 0, set()
        part.append(item)
        size += len(item.row) + 1
        months.add(month)
    if part:
        yield part


def halves(part: Sequence[Item]) -> list[Sequence[Item]]:
    """Two halves."""
    middle = len(part) // 2
    return [part[:middle], part[middle:]]


def _month(item: Item) -> tuple[int, int]:
    assert item.envelope is not None
    return item.envelope.occurred_at.year, item.envelope.occurred_at.month


def _spread(items: Sequence[Item]) -> bool:
    return len({_month(item) for item in items}) > MAX_PARTITIONS


def _envelopes(items: Sequence[Item]) -> Iterator[Envelope]:
    for item in items:
        assert item.envelope is not None
        yield item.envelope


def _set(items: Sequence[Item], outcome: Written | Dead | Later) -> None:
    for item in items:
        item.outcome = outcome


def _keep_asking(items: Sequence[Item], jobs: Mapping[str, TakenJob], until: float) -> None:
    for item in items:
        item.outcome = Later(until, jobs[item.job_id].posted)
