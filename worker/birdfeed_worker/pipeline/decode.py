"""Decode: from a job's data in Redis to a batch of unparsed events, and back."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from operator import attrgetter
from typing import Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.typed.lines import Typed, UntypedError, typed
from birdfeed_schemas.wire.envelope import (
    VERSION,
    Batch,
    Header,
    NewerVersionError,
    WireError,
    open_batch,
    read_event,
    read_events,
    split_batch,
    split_lines,
)

from birdfeed_worker.chunks import bounded
from birdfeed_worker.model import NO_POISON, POISON, Dead, Decoded, Item, PoisonEvents, ReservedJob, Unreadable
from birdfeed_worker.pricing.usage.raw import SHAPES
from birdfeed_worker.queue.codec import unpack

#: Events decoded at a time. More would not be faster, and new memory for thousands of them would make it slower.
CHUNK_EVENTS: Final = 500


def chunks(jobs: Iterable[ReservedJob]) -> Iterator[list[ReservedJob]]:
    """The jobs in parts of about CHUNK_EVENTS events, by their producers' counts."""
    return bounded(jobs, attrgetter("events"), CHUNK_EVENTS)


@cache
def _typed(event_type: str, extra: frozenset[str]) -> Typed | None:
    known = registry().get(event_type)
    return None if known is None else typed(event_type, known.event, extra, SHAPES.read)


def decode(
    jobs: Sequence[ReservedJob], poison: PoisonEvents = NO_POISON, extra: frozenset[str] | None = None
) -> Decoded:
    """Open the jobs and parse their events. The item of a damaged line has no envelope, but a Dead outcome.

    Args:
        jobs: Reserved jobs.
        poison: Events (job id and line from 0; line None: the whole job) that are known to kill a worker; they are
            not parsed.
        extra: The fields that the operator stores. If it is given, events in the form that birdfeed's producers send
            are typed and checked in one step; other events, and all events without it, keep their data as sent.
    """
    decoded = Decoded()
    for job in jobs:
        if (job.id, None) in poison:
            decoded.unreadable.append(Unreadable(job, POISON.reason, POISON.detail))
            continue
        try:
            header, body = open_batch(unpack(job.data))
            items = _items(job, header, body, poison, extra)
        except NewerVersionError as error:
            decoded.newer.append((job, error.version))
            continue
        except WireError as error:
            decoded.unreadable.append(Unreadable(job, "undecodable", error.reason))
            continue
        decoded.items.extend(items)
    return decoded


class CutWhenAsked:
    """A job's lines, split only when one is asked for; those of written events never are."""

    __slots__ = ("_data", "_lines")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lines: Sequence[bytes] | None = None

    def __getitem__(self, number: int) -> bytes:
        if self._lines is None:
            self._lines = split_batch(unpack(self._data)).lines
        return self._lines[number]


def _items(
    job: ReservedJob, header: Header, body: bytes, poison: PoisonEvents, extra: frozenset[str] | None
) -> Iterable[Item]:
    # It was sent, enqueued or dead before: Tinybird may have it.
    verify = job.maybe_written_since is not None or header.retried or bool(header.replay_id or header.reason)
    deadly = {number for job_id, number in poison if job_id == job.id}
    reader = _typed(header.event_type, extra) if extra is not None and header.version == VERSION else None
    if reader is not None and not deadly:
        with suppress(UntypedError):  # a line doesn't fit: decode each by itself
            source, job_id = CutWhenAsked(job.data), job.id
            return [
                Item(job_id, header, source, one, b"", None, verify, "", one.data, number)
                for number, one in enumerate(reader.read_body(body))
            ]
    lines = split_lines(body)
    if reader is None and not deadly:
        with suppress(WireError):
            pairs = zip(lines, read_events(Batch(header, lines)), strict=True)
            return [Item(job.id, header, line, one, b"", None, verify) for line, one in pairs]
    return [
        Item(job.id, header, line, outcome=POISON, verify=verify)
        if number in deadly
        else _item(job, header, line, reader, verify)
        for number, line in enumerate(lines)
    ]


def _item(job: ReservedJob, header: Header, line: bytes, reader: Typed | None, verify: bool) -> Item:
    if reader is not None:
        try:
            one = reader.read_line(line)
            return Item(job.id, header, line, one, verify=verify, event=one.data)
        except UntypedError:
            pass
    try:
        return Item(job.id, header, line, read_event(header, line), verify=verify)
    except WireError as error:
        return Item(job.id, header, line, outcome=Dead("undecodable", error.reason), verify=verify)
