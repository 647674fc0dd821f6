"""Send: one request's rows to their data source, again and in parts, until each of them has an outcome.

Decisions are retry.py's; here they are carried out: wait, halve, bisect, ask what was quarantined, give back.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
#: Waits up to this many seconds are waited with the jobs in flight; longer ones give them back.
SHORT_WAIT: Final = 2.0
#: Tries of identical bytes in one go after an unknown outcome, where nobody can be asked (no read token).
BLIND_TRIES: Final = 3
#: Single rows refused with 400, with no row taken meanwhile, after which no row is to blame but the destination.
REFUSED_ROWS_UNTIL_PAUSE: Final = 8


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was refused with 400 alone; whether the store had taken other rows of the same request by then."""

    item: Item
    reason: str
    after_success: bool


class Sender:
    """Sends requests for one worker process, several at a time where threads call it so.

    Args:
        tinybird: The store.
        limiter: The pool's rate limit.
        clock: Time, and the sleep that ends when the worker is told to stop.
        bisect_requests: Requests spent on finding the bad rows of one.
        settle_seconds: Seconds until Tinybird is asked after an unknown outcome.
        mark: Called before each request with the reservation's execution id and the ids of the jobs in it;
            notes in Redis that they may be written from now on, and returns those that another worker has by now.
        refusals: Whose tokens are refused.
    """

    def __init__(
        self,
        tinybird: Tinybird,
        limiter: RateLimiter,
        clock: Clock,
        *,
        bisect_requests: int,
        settle_seconds: float,
        mark: Callable[[str, Sequence[str]], frozenset[str]],
        refusals: Refusals,
    ) -> None:
        self._tinybird = tinybird
        self._limiter = limiter
        self._clock = clock
        self._bisect_requests = bisect_requests
        self._settle_seconds = settle_seconds
        self._mark = mark
        self._refusals = refusals

    def send(self, datasource: str, items: Sequence[Item], execution: str) -> None:
        """One request, and what follows from its answer, until each of the items has an outcome.

        Args:
            datasource: Where the rows go.
            items: Of one reservation, with rows and no outcome yet.
            execution: The reservation's.
        """
        if self._clock.stop.is_set() or self._refusals.hands_over(datasource):
            set_outcome(items, Deferred())
            return
        waiting: deque[Sequence[Item]] = deque([items])
        budget, taken, given_back, probing, refused = self._bisect_requests, False, False, False, list[Refused]()
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
                self._refusals.accepted(datasource)
            match decision:
                case Done():
                    taken = True
                    self._limiter.available(datasource, admission)
                    written = Written()
                    for item in part:
                        item.outcome, item.row = written, b""  # the memory is the next rows'
                case PartlyQuarantined(rows):
                    taken = True
                    self._limiter.available(datasource, admission)
                    self._partly_quarantined(datasource, part, rows)
                case Wait(asked, reason):
                    seconds_off = self._limiter.back_off(datasource, asked, reason)
                    log.warning("%s: %s; waiting %.1f s", datasource, reason, seconds_off)
                    set_outcome(part, Deferred(self._clock.time() + seconds_off))
                case Pause(reason):
                    seconds_off = self._limiter.paused(datasource, reason)
                    log.error("%s: paused: %s; probing again in %.0f s", datasource, reason, seconds_off)
                    set_outcome(part, Deferred(self._clock.time() + seconds_off))
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
                        # There are more bad rows than the budget finds; the store takes the others. Next time.
                        given_back = True
                        set_outcome(part, Deferred())
                    else:
                        self._refuse_all(datasource, part, reason)
                case Unknown(reason):
                    now = self._clock.time()
                    log.warning("%s: outcome unknown (%s); rows: %d", datasource, reason, len(part))
                    seconds_off = self._limiter.back_off(datasource, None, reason)
                    wait = self._settle_seconds if self._tinybird.can_read else seconds_off
                    set_outcome(part, Deferred(now + wait, now))
            given_back = given_back or isinstance(decision, Wait | Pause | TokenRefused | Unknown)
        self._reject(datasource, refused, taken, given_back, len(items), execution)
        if probing:
            self._limiter.inconclusive(datasource)

    def _admitted(self, datasource: str, part: Sequence[Item], execution: str) -> tuple[Sequence[Item], Admission]:
        """The items to send once the limiter lets the request through; the others have been given back."""
        size = sum([len(item.row) for item in part]) + len(part)
        while True:
            admission = self._limiter.admit(datasource, size)
            if admission.wait <= 0:
                break
            if admission.wait > SHORT_WAIT or self._clock.sleep(admission.wait):
                log.debug(
                    "%s: rows waiting: %d, for %.1f s (%s)", datasource, len(part), admission.wait, admission.reason
                )
                set_outcome(part, Deferred(self._clock.time() + admission.wait))
                return (), admission
        lost = self._mark(execution, sorted({item.job_id for item in part}))
        if lost:
            set_outcome([item for item in part if item.job_id in lost], Deferred())
            part = [item for item in part if item.job_id not in lost]
        return part, admission

    def _post(self, datasource: str, part: Sequence[Item]) -> Answer:
        """One POST; where nobody can be asked about an unknown outcome, the identical bytes a few times more."""
        body = self._tinybird.encode([item.row for item in part])
        answer = self._tinybird.append(datasource, body)
        if self._tinybird.can_read:
            return answer
        for attempt in range(1, BLIND_TRIES):
            if not isinstance(decide(answer, len(part)), Unknown) or self._clock.sleep(0.5 * 2**attempt):
                break
            # Nobody to ask: Tinybird may recognise identical bytes, and nothing else would.
            answer = self._tinybird.append(datasource, body)
        return answer

    def _partly_quarantined(self, datasource: str, part: Sequence[Item], rows: int) -> None:
        """Tinybird says how many rows it quarantined, never which: read them back."""
        self._tinybird.forget_columns(datasource)  # the rows may be made for a table that was exchanged
        try:
            found = find_quarantined(self._tinybird, datasource, [item.event_id for item in part])
        except (QuotaError, QueryError) as error:
            if rows == len(part):
                set_outcome(part, Dead("quarantined", QUARANTINED))
                return
            # The rows are in the store either way and must not be sent again: verification finds out which.
            log.warning("%s: %d of %d rows quarantined, asking later which (%s)", datasource, rows, len(part), error)
            if not self._tinybird.can_read:
                set_outcome(part, Written())
                return
            now = self._clock.time()
            set_outcome(part, Deferred(now + self._settle_seconds, now))
            return
        log.error("%s: %d of %d rows quarantined by Tinybird", datasource, rows, len(part))
        for item in part:
            why = found.get(item.event_id)
            item.outcome = Written() if why is None else Dead("quarantined", why)

    def _token_refused(self, datasource: str, reason: str) -> float:
        """Until when the rows wait (epoch s; 0: others take them now)."""
        if not self._refusals.refused(datasource, reason):
            log.error("%s refuses this worker's token: %s; other workers take its rows", datasource, reason)
            return 0.0
        seconds_off = self._limiter.paused(datasource, reason)
        log.error("%s: paused: %s; every worker's token is refused", datasource, reason)
        return self._clock.time() + seconds_off

    def _refuse_all(self, datasource: str, part: Sequence[Item], reason: str) -> None:
        seconds_off = self._limiter.paused(datasource, f"every request is refused: {reason}")
        log.error("%s: paused: every request is refused: %s", datasource, reason)
        set_outcome(part, Deferred(self._clock.time() + seconds_off))

    def _reject(
        self, datasource: str, refused: Sequence[Refused], taken: bool, given_back: bool, rows: int, execution: str
    ) -> None:
        """Rows refused alone are to blame, unless the store refused everything at that time.

        Whether it did is not known where it took nothing and other rows were given back (`given_back`) untried.
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
                # The store took nothing yet when it refused this row; now that it does, the row gets another chance.
                self.send(datasource, [one.item], execution)
            else:
                one.item.outcome = Dead("rejected", one.reason)


def set_outcome(items: Iterable[Item], outcome: Outcome) -> None:
    """The same for all of them."""
    for item in items:
        item.outcome = outcome
