"""Replay: read dead letters, and put them back into the queue when what killed them is mended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from birdfeed_schemas.envelope import Batch, WireError, split_batch
from birdfeed_schemas.keys import EVENTS_FIELD, REASON_FIELD, TYPE_FIELD, Keys
from redis import Redis

from birdfeed_worker.decode import repack, unpack
from birdfeed_worker.lua import script
from birdfeed_worker.take import as_text

#: Dead letters read in one round trip.
PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterInfo:
    """What a dead letter says of itself. Times are UTC, ISO 8601; `batch` is None where it can't be opened."""

    id: str
    event_type: str
    reason: str
    detail: str
    events: int
    attempts: int
    first_failed_at: str
    last_failed_at: str
    batch: Batch | None


@dataclass(slots=True)
class Replayed:
    """How many dead letters and events went back, and how many dead letters were not there any more or unreadable."""

    letters: int = 0
    events: int = 0
    vanished: int = 0
    unreadable: int = 0


def dead_letters_of(connection: Redis, keys: Keys) -> Iterator[DeadLetterInfo]:
    """Every dead letter, oldest first, a page at a time; those that vanish meanwhile are skipped."""
    start = 0
    while page := _ids(connection, keys, start):
        start += len(page)
        with connection.pipeline(transaction=False) as pipe:
            for job_id in page:
                pipe.hmget(
                    keys.job(job_id), ["data", TYPE_FIELD, REASON_FIELD, EVENTS_FIELD, "description", "ended_at"]
                )
            found = pipe.execute()
        for job_id, values in zip(page, found, strict=True):
            if values[0] is not None:
                yield _info(job_id, *values)


def _ids(connection: Redis, keys: Keys, start: int) -> list[str]:
    found: list[Any] = connection.zrange(keys.failed, start, start + PAGE - 1)
    return [as_text(job_id) for job_id in found]


def _info(
    job_id: str,
    data: bytes,
    event_type: bytes | None,
    reason: bytes | None,
    events: bytes | None,
    description: bytes | None,
    ended_at: bytes | None,
) -> DeadLetterInfo:
    try:
        batch: Batch | None = split_batch(unpack(data))
    except WireError:
        batch = None
    header = batch.header if batch is not None else None
    failed_at = as_text(ended_at or b"")
    return DeadLetterInfo(
        id=job_id,
        event_type=as_text(event_type or b"unknown"),
        # A job that rq failed by itself (a stock worker took it) has no reason of ours.
        reason=as_text(reason or b"failed"),
        detail=header.detail if header is not None and header.detail else as_text(description or b""),
        events=int(events or 1),
        attempts=header.attempts if header is not None else 0,
        first_failed_at=header.first_failed_at if header is not None and header.first_failed_at else failed_at,
        last_failed_at=header.last_failed_at if header is not None and header.last_failed_at else failed_at,
        batch=batch,
    )


def replay(
    connection: Redis, keys: Keys, letters: Iterator[DeadLetterInfo], done: Callable[[int], None] | None = None
) -> Replayed:
    """Put dead letters back into the queue, each in one step; the worker asks the store before it writes them.

    Args:
        connection: Redis.
        keys: Names of the keys.
        letters: Which ones; read them all before, so that what fails again isn't replayed again.
        done: Called with the number of events after each.
    """
    back = script(connection, "replay")
    result = Replayed()
    replay_id = f"replay-{uuid4().hex}"
    for letter in letters:
        if letter.batch is None:
            result.unreadable += 1
            continue
        header = replace(letter.batch.header, replay_id=replay_id, reason="", detail="")
        data, size = repack(header, letter.batch.lines)
        description = f"birdfeed replay: {letter.events} {letter.event_type}"
        if back(keys=[keys.failed], args=[keys.prefix, keys.queue, letter.id, data, size, description]):
            result.letters += 1
            result.events += letter.events
        else:
            result.vanished += 1
        if done is not None:
            done(letter.events)
    return result
