"""Audit log: who did what to dead letters, in bounded streams in Redis (`birdfeed dead log`).

What retention purges goes into a separate stream, so that it doesn't push out the entries of people's actions.
"""

import getpass
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.reply import as_text, json_object
from birdfeed_worker.queue.scripts import run_when_full, script

#: Entries kept in each stream.
KEPT: Final = 1_000
BY_PEOPLE: Final = "dead-log"
BY_RETENTION: Final = "retention-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log: when (UTC), who (user@host), what, and its details."""

    at: datetime
    who: str
    action: str
    details: dict[str, Any]


def who() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "?"
    return f"{user}@{socket.gethostname().split('.')[0]}"


def note(connection: Redis, keys: Keys, action: str, **details: Any) -> None:
    """Add an entry; details are counts, names and filters, never event data."""
    add(connection, keys, BY_PEOPLE, action, details)


def add(connection: Redis, keys: Keys, stream: str, action: str, details: dict[str, Any]) -> None:
    """Add an entry to one of the streams."""
    fields: dict[Any, Any] = {"who": who(), "action": action, "details": orjson.dumps(details)}
    with connection.pipeline() as pipe:
        pipe.xadd(keys.birdfeed(stream), fields, maxlen=KEPT, approximate=False)
        run_when_full(connection, keys, pipe)


def rewrite(
    connection: Redis, keys: Keys, change: Callable[[dict[str, Any]], dict[str, Any]], *, dry_run: bool = False
) -> int:
    """Change the details of entries about people's actions; the entries keep their place. Returns how many change."""
    stream = keys.birdfeed(BY_PEOPLE)
    args: list[Any] = []
    found: list[Any] = connection.xrevrange(stream) or []
    for entry_id, fields in found:
        details = json_object(fields.get(b"details"))
        if (changed := change(details)) != details:
            args += [entry_id, orjson.dumps(changed)]
    if args and not dry_run:
        script(connection, keys, "rewrite_log")(stream, len(args) // 2, *args)
    return len(args) // 2


def entries(connection: Redis, keys: Keys, most: int = KEPT) -> Iterator[Entry]:
    """The log, newest first."""
    found: list[Any] = []
    for stream in (BY_PEOPLE, BY_RETENTION):
        found += connection.xrevrange(keys.birdfeed(stream), count=most) or []
    for entry_id, fields in sorted(found, key=lambda entry: _order(entry[0]), reverse=True)[:most]:
        read = {as_text(name): as_text(value) for name, value in fields.items()}
        milliseconds, _ = _order(entry_id)
        yield Entry(
            at=datetime.fromtimestamp(milliseconds / 1000, UTC),
            who=read.get("who", ""),
            action=read.get("action", ""),
            details=json_object(read.get("details")),
        )


def _order(entry_id: bytes) -> tuple[int, int]:
    """A stream entry's id as (epoch milliseconds by Redis's clock, sequence number), for sorting."""
    milliseconds, _, number = as_text(entry_id).partition("-")
    return int(milliseconds), int(number)
