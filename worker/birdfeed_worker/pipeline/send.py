"""Send: one request's rows to their data source, again and in parts, until each row has an outcome.

tinybird/decide.py decides; this module carries it out: wait, halve, bisect, ask what was quarantined, give back.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.flow.rate_limit import Admission, RateLimiter
from birdfeed_worker.flow.refusals import Refusals
from birdfeed_worker.model import Dead, Deferred, Item, Outcome, Written
from birdfeed_worker.pipeline.batch import halves
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.decide import (
    Answer,
    Bisect,
    Done,
    Halve,
    PartlyQuarantined,
    Pause,
    TokenRefused,
    Unknown,
    Wait,
    decide,
)
from birdfeed_worker.tinybird.lookup import find_quarantined

log = logging.getLogger(__name__)

QUARANTINED: Final = "every row of the request was quarantined; the reasons can't be read"
#: For waits of up to this many seconds the jobs stay in flight; for longer ones they are given back.
SHORT_WAIT: Final = 2.0
#: How often identical bytes are sent after unknown outcomes if Tinybird can't be asked (no read token).
BLIND_TRIES: Final = 3
#: If this many single rows are refused with 400 and none is taken meanwhile, the cause is the destination, not a row.
REFUSED_ROWS_UNTIL_PAUSE: Final = 8


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was refused alone with 400, and whether other rows of the same request had been taken by then."""

    item: Item
    reason: str
    after_success: bool


@dataclass(slots=True)
class Sender:
    """Sends requests for one worker process; threads may send several at a time.

    Args:
        clock: Time, and the sleep that ends when the worker is told to stop.
        bisect_requests: How many requests may be used to find the bad rows of one.
        settle_seconds: Seconds until Tinybird is asked after an unknown outcome.
        mark: Called before each request with the reservation's execution id and the ids of the jobs in the request;
            stores the write-ahead mark in Redis, and returns those jobs whose rows must not be sent.
    """

    tinybird: Tinybird
    limiter: RateLimiter
    clock: Clock
    _: KW_ONLY
    bisect_requests: int
    settle_seconds: float
    mark: Callable[[str, Sequence[str]], frozenset[str]]
    refusals: Refusals

    def send(self, datasource: str, items: Sequence[Item], execution: str) -> None:
        """Send one request, and do what its answer requires until each of the items has an outcome.

        Args:
            items: Items of one reservation, with rows and without outcomes.
            execution: The reservation's execution id.
        """
        if self.clock.stop.is_set() or self.refusals.hands_over(datasource):
            set_outcome(items, Deferred())
            return
        waiting: deque[Sequence[Item]] = deque([items])
        budget, taken, given_back, probing, refused = self.bisect_requests, False, False, False, list[Refused]()
        while waiting:
            part, admission = self._admitted(datasource, waiting.popleft(), execution)
            probing = probing or admission.probe
            if admission.wait > 0:
                given_back = True
            if not part:
                continue
            answer = self._post(datasource, part)
            decision = decide(answer, len(part))
            if isinstance(decision, Done | PartlyQuarantined | Bisect | Halve):
                self.refusals.accepted(datasource)
            match decision:
                case Done():
                    taken = True
                    self.limiter.available(datasource, admission)
                    written = Written()
                    for item in part:
                        item.outcome, item.row = written, b""  # free the memory for the next rows
                case PartlyQuarantined(rows):
                    taken = True
                    self.limiter.available(datasource, admission)
                    self._partly_quarantined(datasource, part, rows)
                case Wait(asked, reason):
                    seconds_off = self.limiter.back_off(datasource, asked, reason)
                    log.warning("%s: %s; waiting %.1f s", datasource, reason, seconds_off)
                    set_outcome(part, Deferred(self.clock.time() + seconds_off))
                case Pause(reason):
                    seconds_off = self.limiter.paused(datasource, reason)
                    log.error("%s: paused: %s; probing again in %.0f s", datasource, reason, seconds_off)
                    set_outcome(part, Deferred(self.clock.time() + seconds_off))
                case TokenRefused(reason):
                    set_outcome(part, Deferred(self._token_refused(datasource, reason)))
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
                    elif taken:
                        # There are more bad rows than the budget can find, and others are taken: try again later.
                        given_back = True
                        set_outcome(part, Deferred())
                    else:
                        self._refuse_all(datasource, part, reason)
                case Unknown(reason):
                    now = self.clock.time()
                    log.warning("%s: outcome unknown (%s); rows: %d", datasource, reason, len(part))
                    seconds_off = self.limiter.back_off(datasource, None, reason)
                    wait = self.settle_seconds if self.tinybird.can_read else seconds_off
                    set_outcome(part, Deferred(now + wait, now))
            given_back = given_back or isinstance(decision, Wait | Pause | TokenRefused | Unknown)
        self._reject(datasource, refused, taken, given_back, len(items), execution)
        if probing:
            self.limiter.inconclusive(datasource)

    def _admitted(self, datasource: str, part: Sequence[Item], execution: str) -> tuple[Sequence[Item], Admission]:
        """The items to send, once the limiter admits the request; the others have been given back."""
        size = sum([len(item.row) for item in part]) + len(part)
        while True:
            admission = self.limiter.admit(datasource, size)
            if admission.wait <= 0:
                break
            if admission.wait > SHORT_WAIT or self.clock.sleep(admission.wait):
                log.debug(
                    "%s: rows waiting: %d, for %.1f s (%s)", datasource, len(part), admission.wait, admission.reason
                )
                set_outcome(part, Deferred(self.clock.time() + admission.wait))
                return (), admission
        lost = self.mark(execution, sorted({item.job_id for item in part}))
        if lost:
            set_outcome([item for item in part if item.job_id in lost], Deferred())
            part = [item for item in part if item.job_id not in lost]
        return part, admission

    def _post(self, datasource: str, part: Sequence[Item]) -> Answer:
        """POST the rows; if the outcome is unknown and Tinybird can't be asked, POST the identical bytes again."""
        body = self.tinybird.encode([item.row for item in part])
        answer = self.tinybird.append(datasource, body)
        if self.tinybird.can_read:
            return answer
        for attempt in range(1, BLIND_TRIES):
            if not isinstance(decide(answer, len(part)), Unknown) or self.clock.sleep(0.5 * 2**attempt):
                break
            # Without a read token, only Tinybird's own deduplication of identical bytes can avoid duplicates.
            answer = self.tinybird.append(datasource, body)
        return answer

    def _partly_quarantined(self, datasource: str, part: Sequence[Item], rows: int) -> None:
        """Find the quarantined rows by reading them back: Tinybird only says how many there are."""
        self.tinybird.forget_columns(datasource)  # the table may have been exchanged for another
        try:
            found = find_quarantined(self.tinybird, datasource, [item.event_id for item in part])
        except (QuotaError, QueryError) as error:
            if rows == len(part):
                set_outcome(part, Dead("quarantined", QUARANTINED))
                return
            # The rows are in Tinybird either way and must not be sent again: verification will find out which.
            log.warning("%s: %d of %d rows quarantined, asking later which (%s)", datasource, rows, len(part), error)
            if not self.tinybird.can_read:
                set_outcome(part, Written())
                return
            now = self.clock.time()
            set_outcome(part, Deferred(now + self.settle_seconds, now))
            return
        log.error("%s: %d of %d rows quarantined by Tinybird", datasource, rows, len(part))
        for item in part:
            why = found.get(item.event_id)
            item.outcome = Written() if why is None else Dead("quarantined", why)

    def _token_refused(self, datasource: str, reason: str) -> float:
        """Record the refusal; returns until when the rows wait (epoch s; 0: other workers take them now)."""
        if not self.refusals.refused(datasource, reason):
            log.error("%s refuses this worker's token: %s; other workers take its rows", datasource, reason)
            return 0.0
        seconds_off = self.limiter.paused(datasource, reason)
        log.error("%s: paused: %s; every worker's token is refused", datasource, reason)
        return self.clock.time() + seconds_off

    def _refuse_all(self, datasource: str, part: Sequence[Item], reason: str) -> None:
        seconds_off = self.limiter.paused(datasource, f"every request is refused: {reason}")
        log.error("%s: paused: every request is refused: %s", datasource, reason)
        set_outcome(part, Deferred(self.clock.time() + seconds_off))

    def _reject(
        self, datasource: str, refused: Sequence[Refused], taken: bool, given_back: bool, rows: int, execution: str
    ) -> None:
        """Dead-letter rows that were refused alone, unless the destination refused everything at that time.

        It is not known whether it did if it took nothing and other rows were given back (`given_back`) untried.
        """
        if not taken and rows > 1:
            if len(refused) >= min(rows, REFUSED_ROWS_UNTIL_PAUSE):
                self._refuse_all(datasource, [one.item for one in refused], refused[0].reason)
                return
            if given_back:
                set_outcome([one.item for one in refused], Deferred())
                return
        for one in refused:
            if taken and not one.after_success:
                # When this row was refused, no row had been taken yet. Now rows are taken, so try it again.
                self.send(datasource, [one.item], execution)
            else:
                one.item.outcome = Dead("rejected", one.reason)


def set_outcome(items: Iterable[Item], outcome: Outcome) -> None:
    """Set the same outcome for all items."""
    for item in items:
        item.outcome = outcome
