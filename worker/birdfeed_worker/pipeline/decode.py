"""Decode: from a job's data in Redis to a batch of unparsed events, and back."""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from birdfeed_schemas.wire.envelope import (
    Batch,
    Envelope,
    Header,
    NewerVersionError,
    WireError,
    read_event,
    read_events,
    split_batch,
)

from birdfeed_worker.chunks import bounded
from birdfeed_worker.model import NO_POISON, POISON, Dead, Decoded, Item, PoisonEvents, ReservedJob, Unreadable
from birdfeed_worker.queue.codec import unpack

#: Events decoded at a time. More don't make it faster; fresh memory for thousands of them does make it slower.
CHUNK_EVENTS: Final = 500


def chunks(jobs: Iterable[ReservedJob]) -> Iterator[list[ReservedJob]]:
    """The jobs in parts of about CHUNK_EVENTS events, going by what their producers said."""
    return bounded(jobs, attrgetter("events"), CHUNK_EVENTS)


def decode(jobs: Sequence[ReservedJob], poison: PoisonEvents = NO_POISON) -> Decoded:
    """Open the jobs. Events are parsed here; a damaged line leaves its item without an envelope and with a reason.

    Args:
        jobs: As they were reserved.
        poison: Events (job id and line from 0; line None: the whole job) that are known to kill a worker; they are
            not even parsed.
    """
    decoded = Decoded()
    for job in jobs:
        if (job.id, None) in poison:
            decoded.unreadable.append(Unreadable(job, POISON.reason, POISON.detail))
            continue
        try:
            batch = split_batch(unpack(job.data))
        except NewerVersionError as error:
            decoded.newer.append((job, error.version))
            continue
        except WireError as error:
            decoded.unreadable.append(Unreadable(job, "undecodable", error.reason))
            continue
        decoded.items.extend(_items(job, batch, poison))
    return decoded


def _items(job: ReservedJob, batch: Batch, poison: PoisonEvents) -> list[Item]:
    header = batch.header
    # Sent before, enqueued before, or dead before: the store may have it.
    verify = job.maybe_written_since is not None or header.retried or bool(header.replay_id or header.reason)
    deadly = {number for job_id, number in poison if job_id == job.id}
    try:
        if deadly:
            raise WireError("some lines must not be parsed")
        envelopes: list[Envelope | str | None] = list(read_events(batch))
    except WireError:
        envelopes = [
            None if number in deadly else _read_or_reason(header, line) for number, line in enumerate(batch.lines)
        ]
    items = []
    for line, envelope in zip(batch.lines, envelopes, strict=True):
        item = Item(job.id, header, line, verify=verify)
        if envelope is None:
            item.outcome = POISON
        elif isinstance(envelope, str):
            item.outcome = Dead("undecodable", envelope)
        else:
            item.envelope = envelope
        items.append(item)
    return items


def _read_or_reason(header: Header, line: bytes) -> Envelope | str:
    try:
        return read_event(header, line)
    except WireError as error:
        return error.reason
