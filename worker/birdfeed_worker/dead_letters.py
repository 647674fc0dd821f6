"""Dead letters: rq failed jobs that hold the events as they came, grouped by reason, with what is known about them."""

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from birdfeed_schemas.envelope import Header, format_time
from birdfeed_schemas.keys import BYTES_FIELD, EVENTS_FIELD, REASON_FIELD, TYPE_FIELD
from uuid_utils import uuid7

from birdfeed_worker.decode import Item, Unreadable, repack
from birdfeed_worker.outcomes import Dead

#: zlib's best: a dead letter is written once and kept for long.
COMPRESSION = 9


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job to be written: its id, the jobs its events came with, the hash's fields, the error's text."""

    id: str
    event_type: str
    reason: str
    events: int
    sources: frozenset[str]
    fields: dict[str, bytes | str | int]
    error: bytes


def dead_letters(items: Sequence[Item], attempts: dict[str, int], now: datetime, queue: str) -> list[DeadLetter]:
    """Events with a Dead outcome, those that failed together for one reason in one dead letter.

    Args:
        items: Items, any outcome.
        attempts: Job id → how often it was taken, from 1.
        now: UTC.
        queue: The queue's name.
    """
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        if isinstance(item.outcome, Dead):
            key = (item.header.event_type, item.outcome.reason, item.outcome.detail)
            groups.setdefault(key, []).append(item)
    return [_letter(key, group, attempts, now, queue) for key, group in groups.items()]


def _letter(
    key: tuple[str, str, str], group: list[Item], attempts: dict[str, int], now: datetime, queue: str
) -> DeadLetter:
    event_type, reason, detail = key
    tries = max(attempts.get(item.job_id, 1) + item.header.attempts for item in group)
    firsts = [item.header.first_failed_at for item in group if item.header.first_failed_at]
    job_id = f"dead-{uuid7()}"
    header = Header(
        batch_id=job_id,
        event_type=event_type,
        count=len(group),
        reason=reason,
        detail=detail,
        attempts=tries,
        first_failed_at=min(firsts) if firsts else format_time(now),
        last_failed_at=format_time(now),
    )
    data, size = repack(header, [item.line for item in group], COMPRESSION)
    return DeadLetter(
        job_id,
        event_type,
        reason,
        len(group),
        frozenset(item.job_id for item in group),
        _fields(data, len(group), size, event_type, reason, detail, now, queue),
        _error_text(reason, detail),
    )


def unreadable_letter(bad: Unreadable, now: datetime, queue: str) -> DeadLetter:
    """A job that can't be opened, kept as it came."""
    return DeadLetter(
        f"dead-{uuid7()}",
        bad.job.event_type,
        bad.reason,
        bad.job.events,
        frozenset({bad.job.id}),
        _fields(bad.job.data, bad.job.events, bad.job.size, bad.job.event_type, bad.reason, bad.detail, now, queue),
        _error_text(bad.reason, bad.detail),
    )


def fingerprint(event_type: str, reason: str, detail: str) -> str:
    """Twelve hex digits that are the same for the same failure."""
    return hashlib.sha256(f"{event_type}\0{reason}\0{detail}".encode()).hexdigest()[:12]


def _fields(
    data: bytes, events: int, size: int, event_type: str, reason: str, detail: str, now: datetime, queue: str
) -> dict[str, bytes | str | int]:
    stamp = format_time(now)
    return {
        "data": data,
        "status": "failed",
        "origin": queue,
        "description": f"birdfeed dead letter: {events} {event_type}, {reason}: {detail}"[:300],
        "created_at": stamp,
        "enqueued_at": stamp,
        "ended_at": stamp,
        "timeout": 180,
        "failure_ttl": -1,
        "result_ttl": 0,
        "retries_left": 1_000_000,
        EVENTS_FIELD: events,
        BYTES_FIELD: size,
        TYPE_FIELD: event_type,
        REASON_FIELD: reason,
    }


def _error_text(reason: str, detail: str) -> bytes:
    return b64encode(zlib.compress(f"{reason}: {detail}".encode()))
