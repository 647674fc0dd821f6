"""Audit: who did what to the dead, in a bounded stream in Redis (`birdfeed dead log`)."""

import getpass
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.reply import as_text

#: Entries kept.
KEPT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log: when (UTC), who (user@host), what, and its details."""

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
    fields: dict[Any, Any] = {"who": who(), "action": action, "details": orjson.dumps(details)}
    connection.xadd(keys.birdfeed("dead-log"), fields, maxlen=KEPT, approximate=False)


def entries(connection: Redis, keys: Keys, most: int = KEPT) -> Iterator[Entry]:
    """The log, newest first."""
    found: list[Any] = connection.xrevrange(keys.birdfeed("dead-log"), count=most) or []
    for entry_id, fields in found:
        read = {as_text(name): as_text(value) for name, value in fields.items()}
        milliseconds = int(as_text(entry_id).partition("-")[0])
        yield Entry(
            at=datetime.fromtimestamp(milliseconds / 1000, UTC),
            who=read.get("who", ""),
            action=read.get("action", ""),
            details=orjson.loads(read.get("details", "{}")),
        )
