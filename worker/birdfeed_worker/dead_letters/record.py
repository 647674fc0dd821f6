"""Dead letters: rq failed jobs that hold the events as they were sent, grouped by why they failed.

Events of one delivery that fail for the same reason share a letter, so that a thousand bad events take little more
space than the job they came in. A letter's facts are stored twice: in its batch's header, which stays with the events,
and in a field of the job (JSON), by which letters are listed and filtered without unpacking them.
rq's stream of results is not written: it takes 4.4 kB for each job, and the description says what happened.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.envelope import Batch, Header, format_time
from birdfeed_schemas.wire.keys import BYTES_FIELD, DEAD_FIELD, EVENTS_FIELD, REASON_FIELD, TYPE_FIELD
from msgspec import structs
from uuid_utils import uuid7

from birdfeed_worker.chunks import bounded
from birdfeed_worker.model import Dead, Item, Unreadable
from birdfeed_worker.queue.codec import repack

#: zlib's highest level: a dead letter is written once and kept for a long time.
COMPRESSION: Final = 9
#: Most events in a dead letter, and most bytes of them before compression; a larger event gets its own letter.
LETTER_EVENTS: Final = 1_000
LETTER_BYTES: Final = 1_000_000
#: Characters of the job's description, which shows the detail in lists.
DESCRIPTION: Final = 300

#: What differs between two failures of the same kind: ids, addresses, numbers.
_UUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_HEX: Final = re.compile(r"\b(?=[0-9a-f]*[0-9])(?:0x)?[0-9a-f]{6,}\b", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job to be written: its id, its batch's header, the jobs that its events came in, and the hash's fields.

    `event_ids` are the readable ones, for the log.
    """

    id: str
    header: Header
    sources: frozenset[str]
    event_ids: tuple[str, ...]
    fields: dict[str, bytes | str | int]


def fingerprint(event_type: str, reason: str, detail: str) -> str:
    """Twelve hex digits that are the same for the same failure; ids and numbers in the detail are ignored."""
    return hashlib.sha256(f"{event_type}\0{reason}\0{normalised(detail)}".encode()).hexdigest()[:12]


def normalised(detail: str) -> str:
    """A detail without the parts that differ from event to event."""
    return _NUMBER.sub("#", _HEX.sub("#", _UUID.sub("#", detail)))


def dead_letters(items: Sequence[Item], attempts: dict[str, int], now: datetime, queue: str) -> list[DeadLetter]:
    """Dead letters for the items with a Dead outcome: one for each kind of failure (or more, if it is large).

    Args:
        items: Items with any outcome.
        attempts: Job id → how often it was reserved, from 1.
        now: UTC.
    """
    groups: dict[tuple[str, str, str, int, str], list[tuple[Item, Dead]]] = {}
    for item in items:
        if isinstance(item.outcome, Dead):
            header, dead = item.header, item.outcome
            mark = fingerprint(header.event_type, dead.reason, dead.detail)
            key = (header.event_type, dead.reason, mark, header.replays, header.replay_id)
            groups.setdefault(key, []).append((item, dead))
    parts = (
        part
        for group in groups.values()
        for part in bounded(group, lambda pair: len(pair[0].line) + 1, LETTER_BYTES, LETTER_EVENTS)
    )
    return [_letter(part, attempts, now, queue) for part in parts]


def _letter(group: Sequence[tuple[Item, Dead]], attempts: dict[str, int], now: datetime, queue: str) -> DeadLetter:
    first, dead = group[0]
    items = [item for item, _ in group]
    firsts = [item.header.first_failed_at for item in items if item.header.first_failed_at]
    job_id = new_letter_id()
    header = Header(
        batch_id=job_id,
        event_type=first.header.event_type,
        count=len(items),
        reason=dead.reason,
        detail=dead.detail,
        attempts=max(attempts[item.job_id] + item.header.attempts for item in items),
        replays=first.header.replays,
        first_failed_at=min(firsts) if firsts else format_time(now),
        last_failed_at=format_time(now),
    )
    return DeadLetter(
        job_id,
        header,
        frozenset(item.job_id for item in items),
        tuple(item.event_id for item in items if item.event_id),
        letter_fields(header, [item.line for item in items], queue, replay_id=first.header.replay_id),
    )


def unreadable_letter(bad: Unreadable, now: datetime, queue: str) -> DeadLetter:
    """A dead letter for a job that can't be opened, with its data unchanged."""
    job_id, stamp = new_letter_id(), format_time(now)
    header = Header(
        batch_id=job_id,
        event_type=bad.job.event_type,
        count=bad.job.events,
        reason=bad.reason,
        detail=bad.detail,
        attempts=bad.job.attempts,
        first_failed_at=stamp,
        last_failed_at=stamp,
    )
    fields = hash_fields(header, bad.job.data, bad.job.size, queue)
    return DeadLetter(job_id, header, frozenset({bad.job.id}), (), fields)


def new_letter_id() -> str:
    """A new dead letter's id: ids are in the order of time, also when compared as text."""
    return f"dead-{uuid7()}"


def letter_fields(
    header: Header, lines: Sequence[bytes], queue: str, *, replay_id: str = ""
) -> dict[str, bytes | str | int]:
    """The job's hash for a dead letter of these lines; `replay_id` is the replay in which they failed, if any."""
    data, size = repack(structs.replace(header, count=len(lines), replay_id=""), lines, COMPRESSION)
    return hash_fields(header, data, size, queue, replay_id=replay_id)


def hash_fields(
    header: Header, data: bytes, size: int, queue: str, *, replay_id: str = ""
) -> dict[str, bytes | str | int]:
    """The job's hash for data that is already packed. It has few fields: a single dead event takes under 2 kB."""
    return {
        "data": data,
        "status": "failed",
        "origin": queue,
        "description": describe(header),
        "created_at": header.first_failed_at,
        "ended_at": header.last_failed_at,
        "timeout": 180,
        "failure_ttl": -1,
        "retries_left": 1_000_000,
        EVENTS_FIELD: header.count,
        BYTES_FIELD: size,
        TYPE_FIELD: header.event_type,
        REASON_FIELD: header.reason,
        DEAD_FIELD: known_of(header, replay_id),
    }


def describe(header: Header) -> str:
    """The job's description, as `rq info` and rq-dashboard list it."""
    text = f"birdfeed dead letter: {header.count} {header.event_type}, {header.reason}: {header.detail}"
    return text[:DESCRIPTION]


def rest_of(batch: Batch, lines: Sequence[bytes], reason: str, detail: str) -> tuple[bytes, int, str]:
    """Data, bytes and description of a letter that keeps these lines of its batch; empty if it keeps none."""
    if not lines:
        return b"", 0, ""
    header = structs.replace(batch.header, count=len(lines))
    return *repack(header, lines, COMPRESSION), describe(structs.replace(header, reason=reason, detail=detail))


def known_of(header: Header, replay_id: str) -> bytes:
    """The JSON field by which letters are filtered, in addition to the hash's other fields."""
    known: dict[str, Any] = {
        "fingerprint": fingerprint(header.event_type, header.reason, header.detail),
        "attempts": header.attempts,
        "first": header.first_failed_at,
        "last": header.last_failed_at,
    }
    if header.replays:
        known["replays"] = header.replays
    if replay_id:
        known["replay"] = replay_id
    return orjson.dumps(known)
