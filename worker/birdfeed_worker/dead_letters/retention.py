"""Retention: bound the dead letters. It purges by bytes and age (rq's expiry would be silent), merges small letters of
one kind, and counts jobs that rq failed by itself.

One worker of the pool does this at a time, in small steps, so that a million dead letters take neither a long pause nor
much memory.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, islice
from typing import Final, TypeAlias

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.envelope import Header, format_time
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import BY_RETENTION, add
from birdfeed_worker.dead_letters.move import Mover
from birdfeed_worker.dead_letters.query import DeadLetterInfo, letters_of, opened
from birdfeed_worker.dead_letters.record import LETTER_BYTES, LETTER_EVENTS, letter_fields, new_letter_id
from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import run_when_full, script

log = logging.getLogger(__name__)

#: Letters examined in one step: about 30 ms.
STEP: Final = 500
#: Seconds between two rounds over all letters.
ROUND_SECONDS: Final = 60.0
#: Seconds of the lease with which one worker excludes the others; it renews the lease with each step.
LEASE_SECONDS: Final = 30
#: Letters with fewer events than this are small. This many small ones of a kind, or enough to fill one, are merged.
SMALL_EVENTS: Final = 100
MERGE_LETTERS: Final = 8
#: Small letters remembered in one round at most.
REMEMBERED: Final = 20_000
#: Bytes that Redis needs for a letter besides its data: other fields, key, registry entry. The same as in common.lua.
OVERHEAD_BYTES: Final = 1_100

#: What letters must have in common to be merged: type, reason, fingerprint, attempts, replays, and replay id.
Kin: TypeAlias = tuple[str, str, str, int, int, str]


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits: bytes of Redis for dead letters, and seconds since an event last failed; 0 means no limit."""

    bytes: int
    age_seconds: float


@dataclass(slots=True)
class Group:
    """Small letters of one kind, and the sums of their events and bytes."""

    letters: list[DeadLetterInfo] = field(default_factory=list)
    events: int = 0
    size: int = 0

    def add(self, letter: DeadLetterInfo) -> None:
        """Add a letter."""
        self.letters.append(letter)
        self.events += letter.events
        self.size += letter.size


@dataclass(slots=True)
class Round:
    """The state of one round over all letters. `excess` is the bytes to purge, as measured by the previous round."""

    letters: Iterator[DeadLetterInfo]
    excess: int = 0
    size: int = 0
    seen: int = 0
    small: dict[Kin, Group] = field(default_factory=dict)
    remembered: int = 0
    merged: int = 0
    purged: Counter[str] = field(default_factory=Counter)


class Retention:
    """Keeps dead letters within their caps, for one worker."""

    def __init__(self, connection: Redis, keys: Keys, name: str, caps: Caps, clock: Clock) -> None:
        self._connection = connection
        self._keys = keys
        self._name = name
        self._caps = caps
        self._clock = clock
        self._mover = Mover(connection, keys, clock)
        self._adopt = script(connection, keys, "adopt")
        self._merge = script(connection, keys, "merge")
        self._round: Round | None = None
        self._next_round = float("-inf")
        self._excess = 0
        #: The time of the measurement on which `_excess` and the round are based.
        self._known: bytes | str | None = None

    def step(self) -> bool:
        """Do a small part of the round; returns False if there is nothing to do now, or another worker does it."""
        if self._round is None and self._clock.monotonic() < self._next_round:
            return False
        if not self._mine():
            self._round = None
            self._next_round = self._clock.monotonic() + LEASE_SECONDS
            return False
        if self._round is None:
            self._round = Round(letters_of(self._connection, self._keys), self._excess)
            self._excess = 0
            self._known = self._measured()
        some = list(islice(self._round.letters, STEP))
        if some:
            self._look(self._round, some)
        else:
            self._end(self._round)
        return True

    def _mine(self) -> bool:
        key = self._keys.birdfeed("retention")
        with self._connection.pipeline() as pipe:
            pipe.set(key, self._name, nx=True, ex=LEASE_SECONDS)
            if run_when_full(self._connection, self._keys, pipe)[0]:
                # The lease had expired. If another worker had it since, what was measured here may be purged already.
                if self._measured() != self._known:
                    self._round, self._excess = None, 0
                return True
        if as_text(self._connection.get(key) or b"") != self._name:
            return False
        self._connection.expire(key, LEASE_SECONDS)
        return True

    def _measured(self) -> bytes | str | None:
        """The time of the last complete measurement, by any worker."""
        return self._connection.hget(self._keys.birdfeed("dead-size"), "at")

    def _look(self, this: Round, some: Sequence[DeadLetterInfo]) -> None:
        with self._connection.pipeline(transaction=False) as pipe:
            for letter in some:
                pipe.hstrlen(self._keys.job(letter.id), "data")
            sizes = [int(length) + OVERHEAD_BYTES for length in pipe.execute()]
        oldest = ""
        if self._caps.age_seconds:
            oldest = format_time(self._clock.now() - timedelta(seconds=self._caps.age_seconds))
        too_old, too_much = [], []
        for letter, size in zip(some, sizes, strict=True):
            if not letter.counted:
                # It may lack the time of its failure; from the next round on it is examined as a dead letter.
                self._adopt_one(letter.id)
                this.size += size
                this.seen += 1
            elif letter.last_failed_at < oldest:
                too_old.append(letter)
            elif this.excess > 0:
                too_much.append(letter)
                this.excess -= size
            else:
                this.size += size
                this.seen += 1
                self._remember(this, letter)
        self._purge(this, too_old, f"older than {self._caps.age_seconds / 86_400:g} days")
        self._purge(this, too_much, f"dead letters exceed {self._caps.bytes / 1e6:g} MB")

    def _adopt_one(self, job_id: str) -> None:
        now = format_time(self._clock.now())
        events = int(self._adopt(job_id, now))
        if events > 0:
            log.error(
                "a job that rq itself marked as failed is now a dead letter: %s (perhaps a stock rq worker took it)",
                counted(events, "event"),
            )

    def _purge(self, this: Round, letters: Sequence[DeadLetterInfo], why: str) -> None:
        if not letters:
            return
        events = sum(self._mover.purge(letters))
        if events:
            log.error("purged %s of %s: %s", counted(events, "event"), counted(len(letters), "dead letter"), why)
            this.purged[why] += events

    def _remember(self, this: Round, letter: DeadLetterInfo) -> None:
        if letter.events >= SMALL_EVENTS or this.remembered >= REMEMBERED:
            return
        kin = (
            letter.event_type,
            letter.reason,
            letter.fingerprint,
            letter.attempts,
            letter.replays,
            letter.replay_id,
        )
        group = this.small.setdefault(kin, Group())
        if group.events + letter.events >= LETTER_EVENTS or group.size + letter.size >= LETTER_BYTES:
            self._merge_group(this, group.letters)
            this.remembered -= len(group.letters)
            group = this.small[kin] = Group()
        group.add(letter)
        this.remembered += 1

    def _end(self, this: Round) -> None:
        for group in this.small.values():
            if len(group.letters) >= MERGE_LETTERS:
                self._merge_group(this, group.letters)
        # Once per round, not per step, to keep the log short.
        for why, events in this.purged.items():
            add(self._connection, self._keys, BY_RETENTION, "swept", {"why": why, "events": events})
        # Merged letters now take less space, so measure again before purging anything.
        self._excess = max(0, this.size - self._caps.bytes) if self._caps.bytes and not this.merged else 0
        with self._connection.pipeline() as pipe:
            pipe.hset(
                self._keys.birdfeed("dead-size"),
                mapping={"bytes": this.size, "letters": this.seen, "at": repr(self._clock.time())},
            )
            run_when_full(self._connection, self._keys, pipe)
        self._round = None
        self._known = self._measured()
        self._next_round = self._clock.monotonic() + (0.0 if self._excess or this.merged else ROUND_SECONDS)

    def _merge_group(self, this: Round, group: Sequence[DeadLetterInfo]) -> None:
        """Merge these letters into one, unless a replay is running, which would miss them."""
        if len(group) < 2 or self._connection.exists(self._keys.birdfeed("replaying")):
            return
        there = [letter for letter in opened(self._connection, self._keys, group) if letter.batch is not None]
        if len(there) < 2:
            return
        first = there[0]
        lines = [line for letter in there for line in (letter.batch.lines if letter.batch else ())]
        job_id = new_letter_id()
        header = Header(
            batch_id=job_id,
            event_type=first.event_type,
            count=len(lines),
            reason=first.reason,
            detail=first.detail,
            attempts=first.attempts,
            first_failed_at=min(letter.first_failed_at for letter in there),
            last_failed_at=max(letter.last_failed_at for letter in there),
            replays=first.replays,
        )
        merged = chain.from_iterable((letter.id, letter.digest) for letter in there)
        fields = letter_fields(header, lines, self._keys.queue, replay_id=first.replay_id)
        if self._merge(job_id, len(there), *merged, *chain.from_iterable(fields.items())):
            this.merged += len(there)
            log.debug("merged %d small dead letters into %s", len(there), job_id)
