"""Pack events' lines into batches of one event type, limited in events and bytes, as the data of an rq job."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from birdfeed_schemas.wire.deflate import MAX_UNPACKED_BYTES, deflate, inflate
from birdfeed_schemas.wire.envelope import Header, encode_batch, split_batch
from birdfeed_schemas.wire.keys import JOB_FUNCTION
from uuid_utils import uuid7

from birdfeed.encoding.encoder import Encoded, time_written

#: Bytes of the separator between two lines.
_NEWLINE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """A batch ready to be enqueued.

    Attributes:
        id: The batch's id, which is also the job's.
        event_type: The type of all its events.
        events: Number of events.
        size: Bytes of the packed string before compression.
        data: What goes into the `data` field of rq's job hash.
        retried: Whether it may have been sent before.
    """

    id: str
    event_type: str
    events: int
    size: int
    data: bytes
    retried: bool = False


def line_of(event: Encoded) -> bytes:
    """An event's line, as birdfeed_schemas.wire.envelope.encode_event writes it."""
    written = time_written(event[3])
    return b'{"event_id":"%b","occurred_at":"%b","data":%b}' % (event[4].encode(), written.encode(), event[1])


def cut(
    items: Iterable[tuple[str, bytes]], *, batch_events: int, batch_bytes: int
) -> Iterator[tuple[str, list[bytes]]]:
    """Group events by type, in order, and split them into batches; a line over batch_bytes gets a batch of its own."""
    filling: dict[str, list[bytes]] = {}
    sizes: dict[str, int] = {}
    for event_type, line in items:
        lines = filling.setdefault(event_type, [])
        size = sizes.get(event_type, 0) + len(line) + _NEWLINE
        if lines and (len(lines) >= batch_events or size > batch_bytes):
            yield event_type, lines
            lines = filling[event_type] = []
            size = len(line) + _NEWLINE
        lines.append(line)
        sizes[event_type] = size
    yield from filling.items()


def pack(event_type: str, lines: Sequence[bytes], *, compression: int) -> PackedBatch:
    """A batch of `lines`, with a new id; `compression` is a zlib level."""
    header = Header(batch_id=str(uuid7()), event_type=event_type, count=len(lines))
    return _packed(header, lines, compression)


def mark_retried(batch: PackedBatch) -> PackedBatch:
    """The same batch, marked as possibly sent before, so that the worker asks Tinybird first."""
    if batch.retried:
        return batch
    header = Header(batch_id=batch.id, event_type=batch.event_type, count=batch.events, retried=True)
    return _packed(header, lines_of(batch), 1)


def with_lines(batch: PackedBatch, lines: Sequence[bytes]) -> PackedBatch:
    """The same batch with these lines only."""
    header = Header(batch_id=batch.id, event_type=batch.event_type, count=len(lines), retried=batch.retried)
    return _packed(header, lines, 1)


def lines_of(batch: PackedBatch) -> Sequence[bytes]:
    """The events' lines of a packed batch."""
    _, _, (packed,), _ = orjson.loads(inflate(batch.data, MAX_UNPACKED_BYTES))
    return split_batch(packed).lines


def _packed(header: Header, lines: Sequence[bytes], compression: int) -> PackedBatch:
    packed = encode_batch(header, lines)
    # (function, instance, args, kwargs) as rq's JSONSerializer writes it, and compressed with zlib, as rq does; but by
    # orjson, which escapes a batch ten times faster than the standard library.
    data = orjson.dumps([JOB_FUNCTION, None, [packed], {}])
    return PackedBatch(
        id=header.batch_id,
        event_type=header.event_type,
        events=header.count,
        size=len(packed),
        data=deflate(data, compression),
        retried=header.retried,
    )
