"""Transfer: export dead events as lines of JSON to be edited, and import them, each under its own id.

An exported event stays dead until it is imported, replayed or purged. An import takes the event's data and type from
the line, and everything else, such as event_id and occurred_at, from the dead letter, so that an edit neither
duplicates nor renames an event. A line whose event is no longer dead is not imported.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.compact_bytes import compact_bytes
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.dead_letters.move import Moved, Mover, Step
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, dead_letters_of, find
from birdfeed_worker.operations.edit import refusal
from birdfeed_worker.queue.reply import json_object

#: Lines of a file in memory at once.
CHUNK: Final = 20_000
#: How often a letter is read again because another process took events from it.
TRIES: Final = 10
#: What an exported line says about its letter, besides its id.
_ABOUT: Final = (
    "reason", "detail", "fingerprint", "attempts", "replays", "first_failed_at", "last_failed_at",
)  # fmt: skip


@dataclass(slots=True)
class Exported:
    """Exported events, and what could not be exported: letters that can't be opened, lines that are not events."""

    events: int = 0
    unreadable: int = 0


def export(connection: Redis, keys: Keys, choice: Choice, done: Exported) -> Iterator[bytes]:
    """The selected events, oldest letter first, one line of JSON each (with its newline)."""
    for letter in dead_letters_of(connection, keys, choice):
        if letter.batch is None:
            done.unreadable += letter.events
            continue
        about = {"letter": letter.id, **{name: getattr(letter, name) for name in _ABOUT}}
        for number in choice.chosen(letter.batch):
            fields = json_object(letter.batch.lines[number])
            if "data" not in fields:
                done.unreadable += 1
                continue
            line = {"event_type": letter.event_type, "event_data": fields.pop("data"), **fields, "dead": about}
            done.events += 1
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(slots=True)
class Imported:
    """Events put back into the queue (or that would be); refused lines by reason; lines whose event is not dead."""

    events: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    not_dead: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """An edited event: its number in the file (from 1), its type and data, and the letter it was exported from."""

    number: int
    event_type: str
    data: dict[str, Any]
    letter: str


@dataclass(slots=True)
class Import:
    """Puts edited events back into the queue.

    Args:
        replay_id: The name of the replay in which the events go back.
        tell: Called with a line's number and what is wrong with it.
        dry_run: Only check whether the lines would be accepted.
        stop: Called between letters; returns whether to end.
    """

    connection: Redis
    keys: Keys
    replay_id: str
    tell: Callable[[int, str], None]
    dry_run: bool = False
    stop: Callable[[], bool] = lambda: False
    result: Imported = field(default_factory=Imported)
    _mover: Mover = field(init=False)

    def __post_init__(self) -> None:
        self._mover = Mover(self.connection, self.keys)

    def run(self, lines: Iterable[bytes]) -> Imported:
        """Import all lines, a chunk at a time."""
        numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
        while chunk := list(islice(numbered, CHUNK)):
            self._chunk(chunk)
            if self.stop():
                break
        return self.result

    def _chunk(self, chunk: Sequence[tuple[int, bytes]]) -> None:
        waiting: dict[str, Line] = {}
        for number, text in chunk:
            try:
                event_id, line = read_line(number, text)
            except ValueError as error:
                self._refuse(number, str(error))
                continue
            if event_id in waiting:
                self._refuse(number, "the same event is on an earlier line, whose edit is used")
                continue
            waiting[event_id] = line
        hints = dict.fromkeys(line.letter for line in waiting.values() if line.letter)
        for letter_id in hints:
            if self.stop():
                return
            self._from_letter(find(self.connection, self.keys, letter_id), waiting)
        # Retention may have merged small letters, so events that are not where they were are searched everywhere.
        if waiting:
            for letter in dead_letters_of(self.connection, self.keys):
                if self.stop():
                    return
                self._from_letter(letter, waiting)
                if not waiting:
                    break
        for line in waiting.values():
            self.result.not_dead += 1
            self.tell(line.number, "the event is no longer dead; it was replayed or purged")

    def _from_letter(self, letter: DeadLetterInfo | None, waiting: dict[str, Line]) -> None:
        """Import those of the waiting events that are in this letter."""
        for _ in range(TRIES):
            if letter is None or letter.batch is None:
                return
            found = _found(letter.batch.lines, waiting)
            if not found:
                return
            # A step has one event type; if the file has several for a letter, one step follows the other.
            event_type = next(iter(found.values()))[1].event_type
            part = {number: item for number, item in found.items() if item[1].event_type == event_type}
            if not self.dry_run:
                one = Step(letter, {n: data for n, (_, _, data) in part.items()}, self.replay_id, event_type)
                (taken,) = self._mover.back([one])
                if taken is not Moved.DONE:
                    letter = find(self.connection, self.keys, letter.id)
                    continue
            self.result.events += len(part)
            for event_id, _, _ in part.values():
                del waiting[event_id]
            if len(part) < len(found) and not self.dry_run:
                letter = find(self.connection, self.keys, letter.id)
            elif len(part) == len(found):
                return

    def _refuse(self, number: int, why: str) -> None:
        self.result.refused[why] += 1
        self.tell(number, why)


def read_line(number: int, text: bytes) -> tuple[str, Line]:
    """An edited event's id, and the rest of its line.

    Raises:
        ValueError: It is not an event, or the worker would dead-letter it again; the message says why.
    """
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not an object like those that `birdfeed dead export` writes")
    event_id, event_type, data = record.get("event_id"), record.get("event_type"), record.get("event_data")
    if not isinstance(event_id, str):
        raise ValueError("event_id is missing; to send new events, use `birdfeed send`")
    if not isinstance(event_type, str) or not isinstance(data, dict):
        raise ValueError("event_type or event_data is missing or of the wrong type")
    line = orjson.dumps({"event_id": event_id, "occurred_at": record.get("occurred_at"), "data": data})
    why = refusal(event_type, line)
    if why is not None:
        raise ValueError(why)
    about = record.get("dead")
    letter = about.get("letter") if isinstance(about, dict) else None
    return event_id, Line(number, event_type, data, letter if isinstance(letter, str) else "")


def _found(lines: Sequence[bytes], waiting: dict[str, Line]) -> dict[int, tuple[str, Line, bytes]]:
    """Line number in the letter → event id, the edited line, and the event's line to enqueue."""
    found: dict[int, tuple[str, Line, bytes]] = {}
    for number, text in enumerate(lines):
        try:
            fields = orjson.loads(text)
            edited = waiting.get(fields["event_id"])
        except (ValueError, KeyError, TypeError):
            continue
        if edited is not None:
            fields["data"] = edited.data
            found[number] = (fields["event_id"], edited, compact_bytes(orjson.dumps(fields)))
    return found
