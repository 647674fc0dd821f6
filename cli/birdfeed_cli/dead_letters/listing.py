"""`birdfeed dead list` and `dead show`."""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, dead_letters_of, find, letters_of
from redis import Redis
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from birdfeed_cli.common.console import NOTE, OK, PARTLY, fail, out, print_json, print_lines
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.time_spans import age
from birdfeed_cli.dead_letters.filters import Filters

#: Fields of a dead letter in JSON output, in this order.
LETTER: Final = (
    "id", "event_type", "reason", "detail", "fingerprint", "events", "attempts", "replays", "replay_id",
    "first_failed_at", "last_failed_at",
)  # fmt: skip
#: Kinds of failure listed at most: a million kinds would fit neither on a screen nor in memory.
MOST_KINDS: Final = 2_000


@dataclass(slots=True)
class Kind:
    """Dead events of one kind: all letters with one fingerprint."""

    reason: str
    event_type: str
    fingerprint: str
    detail: str
    events: int = 0
    dead_letters: int = 0
    attempts: int = 0
    first_failed_at: str = ""
    last_failed_at: str = ""

    def add(self, letter: DeadLetterInfo, events: int) -> None:
        """Add a letter."""
        self.events += events
        self.dead_letters += 1
        self.attempts = max(self.attempts, letter.attempts)
        self.first_failed_at = min(self.first_failed_at or letter.first_failed_at, letter.first_failed_at)
        self.last_failed_at = max(self.last_failed_at, letter.last_failed_at)


def run_list(filters: Filters, *, as_json: bool) -> int:
    """Print dead events by kind of failure."""
    connection, keys = open_redis()
    kinds = group(_counted(connection, keys, filters.choice(connection, keys)))
    if as_json:
        print_json(list(map(asdict, kinds)))
    elif not kinds:
        out.print("no dead letters")
    else:
        out.print(kinds_table(kinds))
    return OK


def run_letters(filters: Filters, *, as_json: bool) -> int:
    """Print each matching dead letter, as it is read."""
    connection, keys = open_redis()
    for letter, events in _counted(connection, keys, filters.choice(connection, keys)):
        if as_json:
            print_json({**describe(letter), "chosen": events}, line=True)
        else:
            line = f"{letter.id}  {_short(letter.last_failed_at)}  {events:>6}  {letter.event_type}, {letter.reason}"
            out.print(line, soft_wrap=True)
    return OK


def run_show(which: str, events: int, *, as_json: bool) -> int:
    """Print one dead letter and some of its events. Exit code 1 if there is none."""
    connection, keys = open_redis()
    letter = find(connection, keys, which)
    if letter is None:
        # The last one there is; only that is opened.
        newest = deque(letters_of(connection, keys, Choice(fingerprint=which)), maxlen=1)
        letter = find(connection, keys, newest[0].id) if newest else None
    if letter is None:
        return fail(f"no dead letter has the id or fingerprint {which!r}; `birdfeed dead list` shows them", PARTLY)
    lines = letter.batch.lines[:events] if letter.batch else ()
    if as_json:
        print_json({**describe(letter), "shown": [_event(line) for line in lines]})
        return OK
    _show(letter)
    for line in lines:
        print_lines(event_lines(line))
    if letter.events > len(lines):
        out.print(f"... and {letter.events - len(lines)} more (--events)")
    return OK


def group(letters: Iterable[tuple[DeadLetterInfo, int]]) -> list[Kind]:
    """Group (letter, number of events) by kind, the most frequent first."""
    kinds: dict[str, Kind] = {}
    for letter, events in letters:
        mark = letter.fingerprint
        if mark not in kinds and len(kinds) >= MOST_KINDS:
            mark = f"others:{letter.reason}"
        kind = kinds.get(mark)
        if kind is None:
            others = mark != letter.fingerprint
            detail = "many other kinds" if others else letter.detail
            name = "" if others else mark
            kind = kinds[mark] = Kind(letter.reason, letter.event_type, name, detail)
        kind.add(letter, events)
    return sorted(kinds.values(), key=lambda kind: -kind.events)


def _counted(connection: Redis, keys: Keys, choice: Choice) -> Iterable[tuple[DeadLetterInfo, int]]:
    """Matching letters with their number of matching events; opened only if the events must be examined."""
    if not choice.by_event:
        yield from ((letter, letter.events) for letter in letters_of(connection, keys, choice))
        return
    for letter in dead_letters_of(connection, keys, choice):
        chosen = 0 if letter.batch is None else len(choice.chosen(letter.batch))
        if chosen:
            yield letter, chosen


def kinds_table(kinds: list[Kind]) -> Group:
    """Kinds of failure for display, at 80 columns: number and kind on one line, the cause on the next."""
    now = datetime.now(UTC)
    events = sum(kind.events for kind in kinds)
    rows = [("events", "reason", "last failed", "fingerprint", "event type")]
    for kind in kinds:
        rows.append(
            (f"{kind.events:,}", kind.reason, _ago(kind.last_failed_at, now), kind.fingerprint, kind.event_type)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    parts: list[RenderableType] = [Text(counted(events, "dead event"), style="bold")]
    for row, why in zip(rows, ["", *(kind.detail for kind in kinds)], strict=True):
        cells = [
            row[0].rjust(widths[0]),
            *(cell.ljust(width) for cell, width in zip(row[1:4], widths[1:], strict=True)),
        ]
        parts.append(Text("  ".join([*cells, row[4]]), style="bold"))
        if why:
            parts.append(Padding(Text(why), (0, 0, 0, widths[0] + 2)))
    return Group(*parts)


def _ago(stamp: str, now: datetime) -> str:
    """How long ago; "" for an invalid time, which another tool may have written into a dead letter."""
    try:
        return f"{age((now - datetime.fromisoformat(stamp)).total_seconds(), parts=1)} ago"
    except (ValueError, TypeError, OverflowError):
        return ""


def describe(letter: DeadLetterInfo) -> dict[str, object]:
    """A dead letter for JSON output, without its events."""
    return {name: getattr(letter, name) for name in LETTER}


def _show(letter: DeadLetterInfo) -> None:
    again = f", replayed {counted(letter.replays, 'time')}" if letter.replays else ""
    for name, value in (
        ("dead letter", letter.id),
        ("reason", f"{letter.reason}: {letter.detail}"),
        ("fingerprint", letter.fingerprint),
        ("events", f"{letter.events} {letter.event_type}"),
        ("failed", f"first {_short(letter.first_failed_at)}, last {_short(letter.last_failed_at)} UTC"),
        ("attempts", f"{letter.attempts} by a worker{again}"),
    ):
        out.print(Text.assemble((f"{name:<12}", "bold"), value), soft_wrap=True)
    if letter.batch is None:
        out.print("It can't be opened; look at it with `rq` or redis-cli.", style=NOTE)


def event_lines(line: bytes) -> list[str]:
    """One event for display, as indented JSON."""
    return orjson.dumps(_event(line), option=orjson.OPT_INDENT_2).decode().split("\n")


def _event(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return {"damaged line": line.decode(errors="replace")}


def _short(stamp: str) -> str:
    return stamp[:19].replace("T", " ")
