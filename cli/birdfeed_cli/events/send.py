"""`birdfeed send`: send events from a file through the real producer, and report each line that is not an event."""

import codecs
import os
from collections import Counter
from typing import Any, BinaryIO

import birdfeed
import orjson
from birdfeed.settings import ProducerSettings
from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.variables import type_meant
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from birdfeed_cli.common.console import OK, PARTLY, err, out, print_json, warn
from birdfeed_cli.common.files import open_input
from birdfeed_cli.common.redis_access import open_redis

#: Events between two flushes: a file is read much faster than Redis takes events, and none may be dropped.
FLUSH_EVERY = 5_000
#: Lines reported one by one; after that they are only counted.
TOLD = 20
#: What lines from `birdfeed dead export` contain besides the event.
EXPORTED = b'"dead":{"letter":'
#: Seconds for one flush.
FLUSH_SECONDS = 60.0


class BadLine(Exception):  # noqa: N818 - a line that is not an event
    """A line is not an event; the message says why, `reason` is the short code under which it is counted."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def run_send(file: str, *, as_json: bool) -> int:
    """Send them. Exit codes: 0 all accepted, 1 some lines refused, 2 wrong use, 3 Redis can't be reached."""
    open_redis()
    with open_input(file) as stream:
        return _send(stream, None if file == "-" else os.fstat(stream.fileno()).st_size, as_json=as_json)


def _send(stream: BinaryIO, size: int | None, *, as_json: bool) -> int:
    refused: Counter[str] = Counter()
    settings = ProducerSettings.with_dotenv().model_copy(update={"sample": {}})  # no sampling: send every event
    birdfeed.configure(settings)
    limit = settings.max_event_bytes
    read = tracked = too_large = 0
    exported = False
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=as_json) as progress:
        task = progress.add_task("sending", total=size)
        for number, line in enumerate(stream, start=1):
            progress.advance(task, len(line))
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            read += 1
            try:
                event_type, data = read_line(line)
            except BadLine as bad:
                refused[bad.reason] += 1
                if sum(refused.values()) <= TOLD:
                    warn(f"line {number}: {bad}")
                continue
            if event_type not in registry() and sum(refused.values()) <= TOLD:
                hint = type_meant(event_type, registry())
                warn(
                    f"line {number}: no event type is named {event_type!r}; the worker will dead-letter the event{hint}"
                )
            if not exported and EXPORTED in line:
                exported = True
                warn(
                    f"line {number}: this was exported from dead letters; `send` sends it as a new event, "
                    "`birdfeed dead import` puts the dead event back into the queue"
                )
            birdfeed.track_event(birdfeed.EventType(event_type), data)
            tracked += 1
            if len(line) > limit and birdfeed.stats().dropped.get("too_large", 0) > too_large:
                too_large += 1
                warn(f"line {number}: the event is over {limit / 1e6:g} MB (BIRDFEED_MAX_EVENT_BYTES) and is refused")
            if tracked % FLUSH_EVERY == 0:
                birdfeed.flush(FLUSH_SECONDS)
    birdfeed.close(FLUSH_SECONDS)
    return _report(read, tracked, refused, as_json=as_json)


def read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    """An event's type and data from a line of NDJSON; raises BadLine."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine("broken_line", f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadLine("broken_line", 'not an object like {"event_type": "...", "event_data": {...}}')
    event_type, data = record.get("event_type"), record.get("event_data")
    if not isinstance(event_type, str) or not event_type:
        raise BadLine("no_event_type", "event_type is missing or not text")
    if not isinstance(data, dict):
        raise BadLine("no_event_data", "event_data is missing or not an object")
    return event_type, data


def _report(read: int, tracked: int, refused: Counter[str], *, as_json: bool) -> int:
    stats = birdfeed.stats()
    refused.update(stats.dropped)
    accepted = tracked - sum(stats.dropped.values())
    spooled = stats.spooled - stats.drained
    if as_json:
        print_json({"read": read, "accepted": accepted, "spooled": spooled, "refused": dict(refused)})
    else:
        out.print(
            f"{counted(read, 'event')} read, {accepted:,} accepted"
            + (f" ({spooled:,} of them in the spool)" if spooled > 0 else "")
        )
        for reason, amount in sorted(refused.items()):
            out.print(f"{amount:,} refused: {reason}")
    return PARTLY if refused else OK
