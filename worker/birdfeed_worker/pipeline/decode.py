"""Decode: from a job's data in Redis to a batch of unparsed events, and back."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson
from birdfeed_schemas.envelope import (
    Batch,
    Envelope,
    Header,
    NewerVersionError,
    WireError,
    encode_batch,
    read_event,
    read_events,
    split_batch,
)
from birdfeed_schemas.keys import JOB_FUNCTION

from birdfeed_worker.model import Dead, Outcome
from birdfeed_worker.queue.reserve import TakenJob

#: Events decoded at a time. More don't make it faster; fresh memory for thousands of them does make it slower.
CHUNK_EVENTS: Final = 500
#: A batch that unpacks to more than this is no batch of ours: producers stop far below (zip bomb).
MAX_UNPACKED_BYTES: Final = 256_000_000


#: Events that kill a worker process: job id and line from 0, or None for a job that can't even be opened.
Killers: TypeAlias = frozenset[tuple[str, int | None]]
NO_KILLERS: Final[Killers] = frozenset()
KILLS_WORKER: Final = Dead("kills_worker", "three processes died of this event alone; it is never worked on again")


@dataclass(slots=True)
class Item:
    """One event in hand: the job it came with, its line as it travels, and what it has become so far."""

    job_id: str
    header: Header
    line: bytes
    envelope: Envelope | None = None
    row: bytes = b""
    outcome: Outcome | None = None
    verify: bool = False
    cost_status: str = ""

    def release(self) -> None:
        """The row is made: let go of what it was made of. Its identity stays."""
        if self.envelope is not None:
            self.envelope.data = _GONE

    @property
    def event_id(self) -> str:
        """The event's id; nothing for a line that can't be read."""
        return "" if self.envelope is None else self.envelope.event_id


_GONE: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A job that is no batch of ours: dead-lettered whole, with its data as it was."""

    job: TakenJob
    reason: str
    detail: str


@dataclass(slots=True)
class Decoded:
    """What a set of jobs holds. `newer` are jobs of a wire version this worker doesn't read yet."""

    items: list[Item] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    newer: list[tuple[TakenJob, int]] = field(default_factory=list)

    def extend(self, more: "Decoded") -> None:
        """Add what other jobs hold."""
        self.items += more.items
        self.unreadable += more.unreadable
        self.newer += more.newer


def unpack(data: bytes) -> str:
    """The packed batch from rq's job data.

    Raises:
        WireError: It is not rq's JSON for a call of birdfeed's own function with one text argument. Nothing else is
            ever called, whoever wrote it.
    """
    try:
        unzip = zlib.decompressobj()
        text = unzip.decompress(data, MAX_UNPACKED_BYTES)
        if unzip.unconsumed_tail:
            raise WireError(f"the job unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        function, _instance, args, _kwargs = orjson.loads(text)
    except WireError:
        raise
    except (zlib.error, ValueError, TypeError) as error:
        raise WireError(f"the job's data is not rq's JSON: {type(error).__name__}") from error
    if function != JOB_FUNCTION:
        raise WireError("the job calls a function that is not birdfeed's")
    if not (isinstance(args, list) and len(args) == 1 and isinstance(args[0], str)):
        raise WireError("the job's arguments are not one packed batch")
    packed: str = args[0]
    return packed


def pack(packed: str, level: int = 6) -> bytes:
    """rq's job data for a packed batch (what rq's JSONSerializer and zlib make of it)."""
    return zlib.compress(orjson.dumps([JOB_FUNCTION, None, [packed], {}]), level)


def repack(header: Header, lines: Sequence[bytes], level: int = 6) -> tuple[bytes, int]:
    """Job data for some lines of a batch, and their size before compression."""
    packed = encode_batch(header, lines)
    return pack(packed, level), len(packed)


def chunks(jobs: Iterable[TakenJob]) -> Iterator[list[TakenJob]]:
    """The jobs in parts of about CHUNK_EVENTS events, going by what their producers said."""
    part: list[TakenJob] = []
    events = 0
    for job in jobs:
        if part and events + job.events > CHUNK_EVENTS:
            yield part
            part, events = [], 0
        part.append(job)
        events += job.events
    if part:
        yield part


def decode(jobs: Sequence[TakenJob], killers: Killers = NO_KILLERS) -> Decoded:
    """Open the jobs. Events are parsed here; a damaged line leaves its item without an envelope and with a reason.

    Args:
        jobs: As they were taken.
        killers: Events (job id and line from 0; line None: the whole job) that are known to kill a worker; they are
            not even parsed.
    """
    decoded = Decoded()
    for job in jobs:
        if (job.id, None) in killers:
            decoded.unreadable.append(Unreadable(job, KILLS_WORKER.reason, KILLS_WORKER.detail))
            continue
        try:
            batch = split_batch(unpack(job.data))
        except NewerVersionError as error:
            decoded.newer.append((job, error.version))
            continue
        except WireError as error:
            decoded.unreadable.append(Unreadable(job, "undecodable", error.reason))
            continue
        decoded.items.extend(_items(job, batch, killers))
    return decoded


def _items(job: TakenJob, batch: Batch, killers: Killers) -> list[Item]:
    header = batch.header
    # Sent before, enqueued before, or dead before: the store may have it.
    verify = job.posted is not None or header.retried or bool(header.replay_id or header.reason)
    deadly = {number for job_id, number in killers if job_id == job.id}
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
            item.outcome = KILLS_WORKER
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
