"""Replay: put dead events back into the queue once the cause of their failure is fixed.

The worker asks Tinybird about each event before it writes it, so replaying twice makes no duplicates. Replayed events
are no longer dead, so an interrupted replay can be continued. Events that die again in a replay carry its id and are
skipped, so that the replay ends.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from uuid import uuid4

from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.move import Moved, Mover, Step
from birdfeed_worker.dead_letters.query import EVERYTHING, Choice, DeadLetterInfo, find, letters_of, opened
from birdfeed_worker.operations.canary import Canary, Verdict
from birdfeed_worker.operations.edit import Edit, refusal
from birdfeed_worker.queue.scripts import run_when_full

#: Letters put back in one round trip.
STEPS: Final = 100
#: An event that was replayed this often and died again is skipped, unless a higher limit is given.
MAX_REPLAYS: Final = 5
#: How far apart the clocks of the workers' hosts and of this host may be.
CLOCKS_APART: Final = timedelta(seconds=10)


def new_replay_id() -> str:
    """A new name for a replay; it is in the rows of replayed events and in the audit log."""
    return f"replay-{uuid4().hex[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to replay, and how.

    Attributes:
        started: UTC; letters that are newer are not replayed.
        edit: What to change in the events; changed events that would be invalid stay dead.
        limit: Events at most.
        rate: Events per second at most.
        max_replays: Events that were already replayed this often stay dead.
        dry_run: Only count.
    """

    choice: Choice = EVERYTHING
    replay_id: str = field(default_factory=new_replay_id)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    edit: Edit = field(default_factory=Edit)
    limit: int | None = None
    rate: float | None = None
    max_replays: int = MAX_REPLAYS
    dry_run: bool = False


@dataclass(slots=True)
class Replayed:
    """Events that were replayed (or would be), in how many letters, and what stays dead and why.

    `vanished` letters were gone in the meantime, and `unreadable` ones can't be opened. `refused` events (by reason),
    among those with a fix or in a dry run, would be invalid. `too_often` events have died in max_replays replays.
    `held_back` events have the fingerprint of a canary that `died` again, or had no outcome in time. `stopped` says
    that the replay did not run to its end.
    """

    letters: int = 0
    events: int = 0
    vanished: int = 0
    unreadable: int = 0
    too_often: int = 0
    held_back: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    canaries: Counter[str] = field(default_factory=Counter)
    stopped: bool = False


@dataclass(slots=True)
class Replay:
    """One replay.

    Args:
        canary: Tries one event of each fingerprint first; None: all are replayed immediately.
        stop: Called between steps; returns whether to end.
        progress: Called with the number of events processed.
    """

    connection: Redis
    keys: Keys
    order: Order
    canary: Canary | None = None
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[int], None] = lambda events: None
    clock: Clock = field(default_factory=Clock)
    result: Replayed = field(default_factory=Replayed)
    _mover: Mover = field(init=False)
    _waiting: list[Step] = field(default_factory=list)
    _tried: dict[str, bool] = field(default_factory=dict)
    _last_letter: str = ""
    _until: str = field(init=False)
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._mover = Mover(self.connection, self.keys, self.clock)
        self._until = format_time(self.order.started + CLOCKS_APART)
        self._begun = self.clock.monotonic()

    def run(self) -> Replayed:
        """Replay until all selected events are back, the limit is reached, or it is told to stop."""
        letters = (letter for letter in letters_of(self.connection, self.keys, self.order.choice) if self._mine(letter))
        for some in batched(letters, STEPS):
            self._hold_merging()
            there = opened(self.connection, self.keys, some)
            self.result.vanished += len(some) - len(there)
            for letter in there:
                if self._ended():
                    break
                self._replay(letter)
                self.progress(letter.events)
            self._flush()
            if self._ended():
                break
        return self.result

    def _mine(self, letter: DeadLetterInfo) -> bool:
        order = self.order
        if letter.replay_id == order.replay_id or letter.last_failed_at > self._until:
            return False
        if letter.replays >= order.max_replays:
            self.result.too_often += letter.events
            return False
        return True

    def _ended(self) -> bool:
        if self.stop():
            self.result.stopped = True
        return self.result.stopped or self._room() <= 0

    def _room(self) -> int:
        if self.order.limit is None:
            return 10**12
        return self.order.limit - self.result.events - sum(len(one.lines) for one in self._waiting)

    def _replay(self, letter: DeadLetterInfo | None) -> None:
        """Replay the selected events of one letter, in as many steps as limit, rate and canary require."""
        refused_before = Counter[str]()
        while letter is not None and not self._ended():
            if letter.batch is None:
                self.result.unreadable += 1
                return
            lines, refused = self._lines(letter)
            self.result.refused += refused - refused_before
            refused_before |= refused
            if not lines or self._held_back(letter, len(lines)):
                return
            first = self.canary is not None and letter.fingerprint not in self._tried
            most = min(self._room(), 1 if first else max(1, int(self.order.rate or len(lines))))
            part = dict(islice(lines.items(), most))
            if len(part) == len(lines) and not first:
                self._put(letter, part)
                return
            if self.order.dry_run:
                # A dry run takes nothing from the letter, so count all events at once, up to the limit.
                self._put(letter, dict(islice(lines.items(), self._room())))
                return
            self._flush()
            one = self._put(letter, part)
            self._flush()
            if first:
                self._tried[letter.fingerprint] = self._try(one)
            letter = find(self.connection, self.keys, letter.id)

    def _lines(self, letter: DeadLetterInfo) -> tuple[dict[int, bytes], Counter[str]]:
        """Number → line to enqueue, for the selected lines; and how many would be refused, by reason."""
        assert letter.batch is not None
        edit, refused = self.order.edit, Counter[str]()
        lines: dict[int, bytes] = {}
        for number in self.order.choice.chosen(letter.batch):
            line = edit.apply(letter.event_type, letter.batch.lines[number])
            why = refusal(edit.event_type or letter.event_type, line) if self._checked(letter) else None
            if why is None:
                lines[number] = line
            else:
                refused[why] += 1
        return lines, refused

    def _checked(self, letter: DeadLetterInfo) -> bool:
        return self.order.edit.changes or (self.order.dry_run and letter.reason in {"invalid", "unknown_event_type"})

    def _held_back(self, letter: DeadLetterInfo, events: int) -> bool:
        if self.canary is None or self.order.dry_run or self._tried.get(letter.fingerprint, True):
            return False
        self.result.held_back += events
        return True

    def _put(self, letter: DeadLetterInfo, lines: dict[int, bytes]) -> Step:
        one = Step(letter, lines, self.order.replay_id, self.order.edit.event_type or letter.event_type)
        self._waiting.append(one)
        if len(self._waiting) >= STEPS or (
            self.order.rate and sum(len(s.lines) for s in self._waiting) >= self.order.rate
        ):
            self._flush()
        return one

    def _flush(self) -> None:
        """Carry out the waiting steps, no faster than the rate; letters that changed in the meantime are read again."""
        steps, self._waiting = self._waiting, []
        if self.order.dry_run:
            self.result.letters += len(steps)
            self.result.events += sum(len(one.lines) for one in steps)
            return
        if steps:
            self._hold_merging()
        again = []
        for one, taken in zip(steps, self._mover.back(steps), strict=True):
            if taken is Moved.DONE:
                # One letter may be replayed in several steps, one after the other.
                self.result.letters += one.letter.id != self._last_letter
                self._last_letter = one.letter.id
                self.result.events += len(one.lines)
            elif taken is Moved.GONE:
                self.result.vanished += 1
            else:
                again.append(one.letter.id)
        if steps and self.order.rate:
            due = self._begun + self.result.events / self.order.rate
            self.clock.sleep(max(0.0, due - self.clock.monotonic()))
        for job_id in again:
            self._replay(find(self.connection, self.keys, job_id))
        if again:
            self._flush()

    def _hold_merging(self) -> None:
        """Keep retention from merging letters for a minute, because a merged letter would seem to vanish."""
        if not self.order.dry_run:
            with self.connection.pipeline(transaction=False) as pipe:
                pipe.set(self.keys.birdfeed("replaying"), self.order.replay_id, ex=60)
                run_when_full(self.connection, self.keys, pipe)

    def _try(self, one: Step) -> bool:
        assert self.canary is not None
        verdict = self.canary.wait(one.job_id, self.stop)
        self.result.canaries[verdict.value] += 1
        return verdict is Verdict.WRITTEN


def replay(connection: Redis, keys: Keys, choice: Choice = EVERYTHING) -> Replayed:
    """Replay dead letters immediately, without a canary."""
    return Replay(connection, keys, Order(choice=choice)).run()
