"""Dead letters, newest first, a page at a time. A page costs the same however many dead letters there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, in_order, opened, read
from birdfeed_worker.queue.reply import as_text

#: Letters examined for a page, and letters read in one round trip.
LOOKED_AT: Final = 5_000
STEP: Final = 500
#: Letters opened in one round trip, and bytes of events (before compression) opened for a page.
OPENED: Final = 50
OPENED_BYTES: Final = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """Matching letters, each with its number of matching events; how many were examined; where the next page begins.

    `after` is empty at the end. If a limit is reached first, the page may have fewer letters than were asked for, even
    none, although more follow.
    """

    letters: Sequence[tuple[DeadLetterInfo, int]]
    looked_at: int
    after: str


def newest(
    connection: Redis, keys: Keys, choice: Choice, *, after: str = "", most: int = 50, look_at: int = LOOKED_AT
) -> Newest:
    """A page of matching letters, newest first.

    Args:
        choice: Which letters match. Letters are opened only if their events must be examined.
        after: The `after` of the previous page. Any other text is harmless: the page then begins somewhere.
        most: Letters on a page at most.
        look_at: Letters examined at most.
    """
    found: list[tuple[DeadLetterInfo, int]] = []
    looked_at = opened_bytes = 0
    while looked_at < look_at:
        ids, cursors = _ids(connection, keys, after, min(STEP, look_at - looked_at))
        if not ids:
            return Newest(letters=found, looked_at=looked_at, after="")
        place = dict(zip(ids, cursors, strict=True))
        size = OPENED if choice.by_event else STEP
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            letters = [letter for letter in read(connection, keys, some) if choice.fits(letter)]
            if choice.by_event:
                letters = opened(connection, keys, letters)
            for letter in letters:
                opened_bytes += letter.size if choice.by_event else 0
                events = _events(choice, letter)
                if events:
                    found.append((letter, events))
                if len(found) >= most:
                    looked = looked_at + ids.index(letter.id) + 1
                    return Newest(letters=found, looked_at=looked, after=place[letter.id])
            after = place[some[-1]]
            if opened_bytes >= OPENED_BYTES:
                return Newest(letters=found, looked_at=looked_at + start + len(some), after=after)
        looked_at += len(ids)
    return Newest(letters=found, looked_at=looked_at, after=after)


def _events(choice: Choice, letter: DeadLetterInfo) -> int:
    if not choice.by_event:
        return letter.events
    return 0 if letter.batch is None else len(choice.chosen(letter.batch))


def _ids(connection: Redis, keys: Keys, after: str, count: int) -> tuple[list[str], list[str]]:
    """The next ids, and for each the cursor that continues after it.

    Members with equal scores are sorted by id, so a page begins at an id, and letters that are added or removed in the
    meantime neither hide others nor show them twice. If rq failed a job by itself, with an expiry, scores differ: then
    a page begins at a rank.
    """
    if in_order(connection, keys):
        top = f"({after}" if after and not after.startswith("#") else "+"
        found: Any = connection.zrevrangebylex(keys.failed, top, "-", 0, count)
        ids = [as_text(one) for one in found]
        return ids, ids
    number = after.removeprefix("#")
    begin = int(number) if number.isdecimal() and len(number) < 10 else 0
    there: Any = connection.zrevrange(keys.failed, begin, begin + count - 1)
    return [as_text(one) for one in there], [f"#{begin + nth + 1}" for nth in range(len(there))]
