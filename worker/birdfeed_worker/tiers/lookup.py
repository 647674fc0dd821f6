"""Looking tiers up for a batch of users: answers remembered for a while, one request per user, within a time budget.

Where answers come from is in tier_sources.py.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from birdfeed_schemas.tables.counted import counted

log: Final = logging.getLogger(__name__)

#: Users remembered at once.
MAX_USERS: Final = 100_000
#: Threads that ask; a batch that finds them busy waits for its turn within its budget.
MAX_LOOKUPS: Final = 4


class TierLookup(Protocol):
    """Something that knows users' tiers."""

    def recall(self, users: Collection[str]) -> Mapping[str, str] | None:
        """What look_up would answer, if nobody has to be waited for; else None."""

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        """The tiers of those users it has an answer for. Never raises: no answer is no entry."""


class TierSource(Protocol):
    """Where answers come from; may be slow, and may fail."""

    def answers(self, users: Collection[str]) -> Iterable[tuple[str, str | None]]:
        """Each user's tier as it gets known; None where the source says that it has none.

        A user it doesn't yield could not be asked about. May raise anything: then nobody else could be either.
        """


class NoTiers:
    """The lookup of a worker that has none."""

    def recall(self, users: Collection[str]) -> Mapping[str, str]:
        """No answers."""
        return {}

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        """No answers."""
        return {}


@dataclass(slots=True)
class CachedTiers:
    """Answers of a source, remembered.

    A user is asked about once at a time, whoever wants to know. A batch waits at most its budget; an answer that comes
    later is there for the next batch. Only answers are remembered as answers. A failure is forgotten at once; where
    nobody could be asked about the source gets a pause, so that an outage doesn't cost every batch its budget. That a
    source has no tier for a user is remembered only as not worth asking again so soon.

    A dict of our own, because looking into a cachetools.TTLCache takes twelve times as long: 1 µs of an event's 6.

    Args:
        source: Where answers come from.
        ttl: Seconds an answer holds.
        no_answer_ttl: Seconds after "has no tier" in which a user isn't asked about.
        failure_pause: Seconds in which nobody is asked about, after nobody could be.
        budget: Seconds a batch may wait.
        max_users: Users remembered; the one remembered longest goes first.
        clock: Monotonic seconds.
        on_failure: Told why, and for how many users, there was no answer; for counting. Reasons: "error", "no_tier",
            "late".
    """

    source: TierSource
    ttl: float = 300.0
    no_answer_ttl: float = 30.0
    failure_pause: float = 1.0
    budget: float = 1.0
    max_users: int = MAX_USERS
    clock: Callable[[], float] = time.monotonic
    on_failure: Callable[[str, int], None] = lambda reason, users: None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: OrderedDict[str, tuple[float, str | None]] = field(default_factory=OrderedDict)  # user → (until, tier)
    _asked: dict[str, Future[str | None]] = field(default_factory=dict)
    _paused_until: float = float("-inf")
    _threads: ThreadPoolExecutor | None = None

    def recall(self, users: Collection[str]) -> Mapping[str, str] | None:
        """The tiers of those users there is an answer for, if all of them are remembered; see TierLookup."""
        answers, missing = self._remembered(users)
        return None if missing else answers

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        """The tiers of those users there is an answer for, within the budget; see TierLookup."""
        answers, missing = self._remembered(users)
        if missing:
            answers.update(self._ask(missing))
        return answers

    def _remembered(self, users: Collection[str]) -> tuple[dict[str, str], list[str]]:
        """Answers at hand, and the users to ask about."""
        answers: dict[str, str] = {}
        known, now = self._known, self.clock()
        missing: list[str] = []
        for user in users:
            entry = known.get(user)
            if entry is None or entry[0] <= now:
                missing.append(user)
            elif entry[1] is not None:
                answers[user] = entry[1]
        return answers, missing

    def close(self) -> None:
        """Release the threads; a request under way ends by its own timeout."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, users: Iterable[str]) -> Iterator[tuple[str, str]]:
        deadline = time.monotonic() + self.budget
        waiting = self._request(dict.fromkeys(users))
        late = 0
        for user, future in waiting.items():
            try:
                tier = future.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                late += 1
                continue
            if tier is not None:
                yield user, tier
        if late:
            self.on_failure("late", late)

    def _request(self, users: Iterable[str]) -> dict[str, Future[str | None]]:
        """What each user's answer will be: under way already, or asked for now. Nothing during a pause."""
        waiting: dict[str, Future[str | None]] = {}
        new: dict[str, Future[str | None]] = {}
        with self._lock:
            now = self.clock()
            for user in users:
                future = self._asked.get(user)
                entry = self._known.get(user)
                if future is None and entry is not None and entry[0] > now:
                    future = Future()  # answered since this batch looked
                    future.set_result(entry[1])
                elif future is None and now >= self._paused_until:
                    future = self._asked[user] = new[user] = Future()
                if future is not None:
                    waiting[user] = future
            if new:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="birdfeed-tiers")
                try:
                    self._threads.submit(self._fetch, new)
                except RuntimeError:  # closed: the worker is on its way out
                    for user, future in new.items():
                        del self._asked[user]
                        future.set_result(None)
        return waiting

    def _fetch(self, asked: dict[str, Future[str | None]]) -> None:
        """Ask the source, and pass on each answer as it comes. Runs in a thread of its own."""
        left = dict(asked)
        without = 0
        broken = False
        try:
            for user, tier in self.source.answers(tuple(asked)):
                future = left.pop(user, None)
                if future is not None:
                    without += tier is None
                    self._remember(user, tier)
                    future.set_result(tier)
        except Exception as error:  # a source may fail in any way; none of them is the batch's
            broken = True
            log.warning("can't look up the tier of %s: %s", counted(len(left), "user"), type(error).__name__)
        finally:
            if left:
                with self._lock:
                    if broken or len(left) == len(asked):
                        self._paused_until = self.clock() + self.failure_pause
                    for user in left:
                        self._asked.pop(user, None)
                self.on_failure("error", len(left))  # before anybody goes on without an answer
                for future in left.values():
                    future.set_result(None)
        if without:
            self.on_failure("no_tier", without)

    def _remember(self, user: str, tier: str | None) -> None:
        until = self.clock() + (self.no_answer_ttl if tier is None else self.ttl)
        with self._lock:
            self._known[user] = (until, tier)
            self._known.move_to_end(user)
            while len(self._known) > self.max_users:
                self._known.popitem(last=False)
            self._asked.pop(user, None)
