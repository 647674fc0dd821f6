"""Move events out of dead letters: back into the queue, or delete them. Only this module takes events out of letters.

Each step is atomic (queue/lua/move.lua): every event stays in exactly one place, even if another process moves events
from the same letter, or this process is killed.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from birdfeed_schemas.wire.envelope import Header, format_time
from birdfeed_schemas.wire.keys import BYTES_FIELD, EVENTS_FIELD, TYPE_FIELD, Keys
from redis import Redis
from uuid_utils import uuid7

from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import DeadLetterInfo
from birdfeed_worker.dead_letters.record import rest_of
from birdfeed_worker.queue.codec import repack
from birdfeed_worker.queue.scripts import script


class Moved(enum.Enum):
    """The result of a step."""

    DONE = 1
    #: The letter no longer exists.
    GONE = 0
    #: The letter has changed since it was read: another process took events from it.
    CHANGED = 2


@dataclass(frozen=True, slots=True)
class Step:
    """Events to move out of one opened letter: line numbers (from 0) and the lines to enqueue.

    `event_type` and `job_id` are those of the new job.
    """

    letter: DeadLetterInfo
    lines: Mapping[int, bytes]
    replay_id: str
    event_type: str
    job_id: str = field(default_factory=lambda: f"replay-{uuid7()}")


class Mover:
    """Carries out steps."""

    def __init__(self, connection: Redis, keys: Keys, clock: Clock | None = None) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock or Clock()
        self._script = script(connection, keys, "move")

    def back(self, steps: Sequence[Step]) -> list[Moved]:
        """Put events back into the queue; one round trip for all steps."""
        return [taken for taken, _ in self._run([self._back_args(one) for one in steps])]

    def purge(self, letters: Sequence[DeadLetterInfo], numbers: Sequence[Sequence[int]] | None = None) -> list[int]:
        """Delete letters, or events (`numbers`) of opened ones; returns each one's deleted events, -1 if changed."""
        # The client retries if an answer is lost, so Redis remembers the result of each letter until it was received.
        memory = self._keys.birdfeed(f"purging:{uuid7()}")
        if numbers is None:
            args = [[letter.id, "", "purge", letter.events, "", 0, "", memory, ""] for letter in letters]
        else:
            args = [
                [letter.id, letter.digest, "purge", len(some), *_left(letter, some), memory, ""]
                for letter, some in zip(letters, map(set, numbers), strict=True)
            ]
        gone = [-1 if taken is Moved.CHANGED else events for taken, events in self._run(args)]
        self._connection.delete(memory)
        return gone

    def _run(self, args: Sequence[Sequence[Any]]) -> list[tuple[Moved, int]]:
        return [(Moved(answer[0]), int(answer[1]) if len(answer) > 1 else 0) for answer in self._script.run_all(args)]

    def _back_args(self, one: Step) -> list[Any]:
        letter = one.letter
        header = Header(
            batch_id=one.job_id,
            event_type=one.event_type,
            count=len(one.lines),
            replay_id=one.replay_id,
            attempts=letter.attempts,
            first_failed_at=letter.first_failed_at,
            last_failed_at=letter.last_failed_at,
            replays=letter.replays + 1,
        )
        data, size = repack(header, list(one.lines.values()))
        now = format_time(self._clock.now())
        fields: dict[str, Any] = {
            "data": data,
            "status": "queued",
            "origin": self._keys.queue,
            "description": f"birdfeed dead replay: {len(one.lines)} {one.event_type}",
            "created_at": now,
            "enqueued_at": now,
            "timeout": 180,
            "result_ttl": 60,
            "failure_ttl": -1,
            "retries_left": 1_000_000,
            EVENTS_FIELD: len(one.lines),
            BYTES_FIELD: size,
            TYPE_FIELD: one.event_type,
        }
        left = _left(letter, set(one.lines))
        head = [letter.id, letter.digest, "back", len(one.lines), *left, one.job_id, one.event_type]
        return [*head, *chain.from_iterable(fields.items())]


def _left(letter: DeadLetterInfo, taken: set[int]) -> tuple[bytes, int, str]:
    assert letter.batch is not None
    lines = [line for number, line in enumerate(letter.batch.lines) if number not in taken]
    return rest_of(letter.batch, lines, letter.reason, letter.detail)
