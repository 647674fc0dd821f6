"""Sums: dead letters by type and reason, added up in Redis, at a fiftieth of what it costs to read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.dead_letters.query import FAILED_BY_RQ, in_order, pages
from birdfeed_worker.queue.reply import as_name, as_text
from birdfeed_worker.queue.scripts import script

#: Letters added up in one step: two milliseconds of Redis's time.
PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Events in some letters of one type and reason, and the id of the oldest of these letters.

    `counted` says whether the ledger has them among the dead.
    """

    event_type: str
    reason: str
    events: int
    oldest: str
    counted: bool


def sums(connection: Redis, keys: Keys) -> Iterator[list[Sum]]:
    """All dead letters, oldest first, a page at a time: each page's sums, by when they are first found.

    Letters that come and go meanwhile neither hide others nor are added twice.
    """
    run = script(connection, keys, "dead_sums")

    def added_up(*args: Any) -> tuple[str, list[Sum]]:
        last, *found = run(*args)
        rows = batched(found, 4)
        return as_text(last), [_sum(*row) for row in rows]

    if not in_order(connection, keys):
        for ids in pages(connection, keys):
            yield added_up("", 0, *ids)[1]
        return
    last, added = added_up("-", PAGE)
    while last:
        yield added
        last, added = added_up(f"({last}", PAGE)


def _sum(event_type: bytes, reason: bytes, events: int, oldest: bytes) -> Sum:
    name = as_name(reason, "")
    return Sum(
        event_type=as_name(event_type, "unknown"),
        reason=name or FAILED_BY_RQ,
        events=events,
        oldest=as_text(oldest),
        counted=bool(name),
    )
