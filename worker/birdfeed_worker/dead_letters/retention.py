"""Retention: keep the dead letters small. Their own caps in bytes and age, because rq's expiry is silent; small
letters of one kind merged; jobs that rq failed by itself counted.

One worker of the pool does this at a time, a little in each step, so that a million dead letters cost neither much time
at once nor memory.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeAlias

from birdfeed_schemas.wire.envelope import Header, format_time
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.dead_letters.move import Mover
from birdfeed_worker.dead_letters.query import DeadLetterInfo, letters_of, opened
from birdfeed_worker.dead_letters.record import LETTER_BYTES, LETTER_EVENTS, letter_fields, new_letter_id
from birdfeed_worker.queue.scripts import script

log = logging.getLogger(__name__)

#: Letters looked at in one step: about 30 ms.
STEP: Final = 500
#: Seconds between two rounds over all letters.
ROUND_SECONDS: Final = 60.0
#: Seconds a worker keeps the others away; it renews this with each step.
LEASE_SECONDS: Final = 30
#: Letters of fewer events than this are small; this many small ones of a kind, or a full letter of them, are merged.
SMALL_EVENTS: Final = 100
MERGE_LETTERS: Final = 8
#: Small letters remembered in one round, and merged at once.
REMEMBERED: Final = 20_000
#: What Redis takes for a letter beside its data: the other fields, the key, the registry's entry.
OVERHEAD_BYTES: Final = 1_100

#: What letters must share to be merged: type, reason, fingerprint, attempts, replays, and the replay they died in.
Kin: TypeAlias = tuple[str, str, str, int, int, str]


@dataclass(frozen=True, slots=True)
class Caps:
    """Most bytes of Redis for dead letters, and most seconds since an event last failed; 0: no cap."""

    bytes: int
    age_seconds: float


@dataclass(slots=True)
class Round:
    """One round over all letters, so far."""

    letters: Iterator[DeadLetterInfo]
    size: int = 0
    seen: int = 0
    small: dict[Kin, list[DeadLetterInfo]] = field(default_factory=dict)
    remembered: int = 0
    merged: int = 0


class Retention:
    """Keeps dead letters within their caps, for one worker.

    Args:
        connection: Redis.
        keys: Names of the keys.
        name: This worker's name.
        caps: When letters are purged.
        clock: Time.
    """

    def __init__(self, connection: Redis, keys: Keys, name: str, caps: Caps, clock: Clock) -> None:
        self._connection = connection
        self._keys = keys
        self._name = name
        self._caps = caps
        self._clock = clock
        self._mover = Mover(connection, keys, clock)
        self._adopt = script(connection, "adopt")
        self._merge = script(connection, "merge")
        self._round: Round | None = None
        self._next_round = float("-inf")
        self._excess = 0

    def step(self) -> bool:
        """A little more of the round; False where there is nothing to do now, or another worker does it."""
        if self._round is None and self._clock.monotonic() < self._next_round:
            return False
        if not self._mine():
            self._round = None
            self._next_round = self._clock.monotonic() + LEASE_SECONDS
            return False
        if self._round is None:
            self._round = Round(letters_of(self._connection, self._keys))
        some = list(islice(self._round.letters, STEP))
        if some:
            self._look(self._round, some)
        else:
            self._end(self._round)
        return True

    def _mine(self) -> bool:
        key = self._keys.birdfeed("retention")
        if self._connection.set(key, self._name, nx=True, ex=LEASE_SECONDS):
            return True
        if (self._connection.get(key) or b"").decode() != self._name:  # type: ignore[union-attr]
            return False
        self._connection.expire(key, LEASE_SECONDS)
        return True

    def _look(self, this: Round, some: Sequence[DeadLetterInfo]) -> None:
        with self._connection.pipeline(transaction=False) as pipe:
            for letter in some:
                pipe.hstrlen(self._keys.job(letter.id), "data")
            sizes = [int(length) + OVERHEAD_BYTES for length in pipe.execute()]
        oldest = ""
        if self._caps.age_seconds:
            now = datetime.fromtimestamp(self._clock.time(), UTC)
            oldest = format_time(now - timedelta(seconds=self._caps.age_seconds))
        too_old, too_much = [], []
        for letter, size in zip(some, sizes, strict=True):
            if not letter.counted:
                self._adopt_one(letter.id)
            if letter.last_failed_at < oldest:
                too_old.append(letter)
            elif self._excess > 0:
                too_much.append(letter)
                self._excess -= size
            else:
                this.size += size
                this.seen += 1
                self._remember(this, letter)
        self._purge(too_old, f"over {self._caps.age_seconds / 86_400:g} days old")
        self._purge(too_much, f"over {self._caps.bytes / 1e6:g} MB together")

    def _adopt_one(self, job_id: str) -> None:
        events = int(self._adopt(keys=[self._keys.failed], args=[self._keys.prefix, self._keys.queue, job_id]))
        if events > 0:
            log.error(
                "a job that rq failed by itself is a dead letter now: %d events (a stock worker took it?)", events
            )

    def _purge(self, letters: Sequence[DeadLetterInfo], why: str) -> None:
        if not letters:
            return
        events = sum(gone for gone in self._mover.purge(letters) if gone > 0)
        if events:
            log.error("dead letters are %s: %d events of %d letters purged", why, events, len(letters))
            note(self._connection, self._keys, "swept", why=why, events=events, dead_letters=len(letters))

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
        group = this.small.setdefault(kin, [])
        group.append(letter)
        this.remembered += 1
        full = sum(one.events for one in group) >= LETTER_EVENTS or sum(one.size for one in group) >= LETTER_BYTES
        if full:
            # The last one made it too much.
            this.small[kin] = [group.pop()]
            this.remembered -= len(group)
            self._merge_group(this, group)

    def _end(self, this: Round) -> None:
        for group in this.small.values():
            if len(group) >= MERGE_LETTERS:
                self._merge_group(this, group)
        # What was merged takes less by now: measured anew, before anything is purged for it.
        self._excess = max(0, this.size - self._caps.bytes) if self._caps.bytes and not this.merged else 0
        self._connection.hset(
            self._keys.birdfeed("dead-size"),
            mapping={"bytes": this.size, "letters": this.seen, "at": repr(self._clock.time())},
        )
        self._round = None
        self._next_round = self._clock.monotonic() + (0.0 if self._excess or this.merged else ROUND_SECONDS)

    def _merge_group(self, this: Round, group: Sequence[DeadLetterInfo]) -> None:
        """Put these letters into one, unless somebody replays just now and would miss them."""
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
        args: list[Any] = [self._keys.prefix, self._keys.queue, job_id, len(there)]
        for letter in there:
            args += [letter.id, letter.digest]
        for name, value in letter_fields(header, lines, self._keys.queue, replay_id=first.replay_id).items():
            args += [name, value]
        if self._merge(keys=[self._keys.failed], args=args):
            this.merged += len(there)
            log.debug("%d small dead letters are one now: %s", len(there), job_id)
