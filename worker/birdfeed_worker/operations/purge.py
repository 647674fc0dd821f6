"""Purge: delete dead events permanently. They are counted, so that the ledger still accounts for every event."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.dead_letters.move import Mover
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, letters_of, opened

#: Letters deleted in one round trip.
STEP: Final = 100


@dataclass(slots=True)
class Purged:
    """Letters and events that were deleted (or would be); letters that can't be opened to select among their events."""

    letters: int = 0
    events: int = 0
    vanished: int = 0
    unreadable: int = 0


def purge(
    connection: Redis,
    keys: Keys,
    choice: Choice,
    *,
    limit: int | None = None,
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda events: None,
) -> Purged:
    """Delete the selected events, oldest first, until `limit` events are deleted or `stop()` returns true."""
    result, mover = Purged(), Mover(connection, keys)
    letters = letters_of(connection, keys, choice)
    while (limit is None or result.events < limit) and not stop():
        some = list(islice(letters, STEP))
        if not some:
            break
        looked_at = sum(letter.events for letter in some)
        while some:
            room = None if limit is None else limit - result.events
            changed: list[DeadLetterInfo] = []
            for batch, numbers in _cut(connection, keys, choice, some, room, result):
                if dry_run:
                    gone = [len(n) for n in numbers] if numbers is not None else [letter.events for letter in batch]
                else:
                    gone = mover.purge(batch, numbers)
                result.letters += sum(1 for events in gone if events > 0)
                result.events += sum(events for events in gone if events > 0)
                result.vanished += gone.count(0)
                changed += [letter for letter, events in zip(batch, gone, strict=True) if events < 0]
            # Another process took events from these in the meantime: select again from what is left.
            some = changed
        progress(looked_at)
    return result


def _cut(
    connection: Redis,
    keys: Keys,
    choice: Choice,
    letters: Sequence[DeadLetterInfo],
    room: int | None,
    result: Purged,
) -> Iterator[tuple[list[DeadLetterInfo], list[list[int]] | None]]:
    """Unopened letters that are deleted whole; or opened letters, with the numbers of the events to delete."""
    if not choice.by_event and (room is None or sum(letter.events for letter in letters) <= room):
        yield list(letters), None
        return
    batch, numbers = [], []
    for letter in opened(connection, keys, letters):
        if letter.batch is None:
            result.unreadable += 1
            continue
        chosen = choice.chosen(letter.batch)[:room]
        if room is not None:
            room -= len(chosen)
        if chosen:
            batch.append(letter)
            numbers.append(chosen)
    yield batch, numbers
