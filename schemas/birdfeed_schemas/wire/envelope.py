"""The wire format: Envelope (one event) and Batch (what one rq job carries).

A batch is sent as one string, the job's only argument: a header line and one line per event, each a JSON object.

    {"version":1,"batch_id":"0192...","event_type":"text_generation","count":2}
    {"event_id":"0192...","occurred_at":"2026-11-23T12:00:00.123456Z","data":{...}}
    {"event_id":"0192...","occurred_at":"2026-11-23T12:00:00.123999Z","data":{...},"dropped_fields":1}

One line per event, so that a damaged line affects only that event, and a batch can be split or joined without parsing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import orjson
from msgspec import Struct

from birdfeed_schemas.wire.compact_bytes import compact_bytes

#: The version this code writes.
VERSION: Final = 1
#: The versions this code reads: its own and the previous one (0 was never released).
READABLE: Final = frozenset({0, 1})
#: Lines of a batch at most, more than any producer writes: a larger one is rejected, as it would delay other jobs.
MAX_LINES: Final = 20_000
#: Longest text and largest count in a header.
MAX_TEXT: Final = 10_000
MAX_COUNT: Final = 1_000_000_000
#: An event's time must be between these (UTC): columns hold no others, and adding a day could overflow.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
#: The largest number of dropped fields that an event can have.
MAX_DROPPED: Final = 65_535


class WireError(ValueError):
    """A batch or a line of it can't be read; `reason` says why in one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NewerVersionError(WireError):
    """The batch was written by a newer birdfeed than this one; `version` is the batch's."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the batch has wire version {version}; this worker reads up to {VERSION}")
        self.version = version

    def __reduce__(self) -> tuple[type["NewerVersionError"], tuple[int]]:
        return type(self), (self.version,)


@dataclass(slots=True, kw_only=True)
class Envelope:
    """One event on the wire.

    occurred_at (UTC) is when it was tracked; event_id is a UUIDv7 that was made at most about a minute earlier, or is
    made from the caller's idempotency key. Neither ever changes.
    `dropped_fields` counts the fields that the producer did not pass on because birdfeed doesn't store them;
    `truncated` counts the values it cut. Not frozen, because a frozen one takes three times as long to create, and a
    worker creates one for every event.
    """

    event_id: str
    event_type: str
    occurred_at: datetime
    data: dict[str, Any]
    dropped_fields: int = 0
    truncated: int = 0
    version: int = VERSION


class Header(Struct, frozen=True, kw_only=True, cache_hash=True):
    """The first line of a batch. Its hash is cached, because the outcomes of events are counted by header.

    `retried` says that the producer sent the batch before and lost the answer; `replay_id` names the replay that put a
    dead letter back into the queue. With either, the worker asks Tinybird what it has before it writes.
    `reason`, `detail`, `attempts`, `first_failed_at` and `last_failed_at` (UTC, ISO 8601) are set on dead letters;
    `replays` counts how often an operator replayed the events.
    """

    batch_id: str
    event_type: str
    count: int
    version: int = VERSION
    retried: bool = False
    replay_id: str = ""
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    first_failed_at: str = ""
    last_failed_at: str = ""
    replays: int = 0


#: Matches a UUID as str(UUID) writes it, in a fifth of the time it takes to parse one.
_canonical_uuid: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}").fullmatch

#: Field → default, of the fields that a header may lack.
_HEADER_DEFAULTS: Final[dict[str, object]] = {
    one.name: one.default for one in msgspec.structs.fields(Header) if not one.required and one.name != "version"
}


@dataclass(frozen=True, slots=True)
class Batch:
    """A header and the events' lines, unparsed."""

    header: Header
    lines: Sequence[bytes] = field(default_factory=tuple)


def encode_event(envelope: Envelope) -> bytes:
    """One event's line. Raises orjson.JSONEncodeError if `data` is not plain JSON."""
    line: dict[str, object] = {
        "event_id": envelope.event_id,
        "occurred_at": format_time(envelope.occurred_at),
        "data": envelope.data,
    }
    if envelope.dropped_fields:
        line["dropped_fields"] = envelope.dropped_fields
    if envelope.truncated:
        line["truncated"] = envelope.truncated
    return compact_bytes(orjson.dumps(line))


def encode_batch(header: Header, lines: Iterable[bytes]) -> str:
    """The string that an rq job carries."""
    head: dict[str, object] = {
        "version": header.version,
        "batch_id": header.batch_id,
        "event_type": header.event_type,
        "count": header.count,
    }
    for name, default in _HEADER_DEFAULTS.items():
        value = getattr(header, name)
        if value != default:
            head[name] = value
    return b"\n".join((orjson.dumps(head), *lines)).decode()


def split_batch(packed: str) -> Batch:
    """Read the header of a batch and split the rest into lines, without parsing the events.

    Raises:
        NewerVersionError: The batch's version is newer than this code reads.
        WireError: The header is not one that this code could have written, or there are more than MAX_LINES lines.
    """
    header, body = open_batch(packed)
    return Batch(header, tuple(split_lines(body)))


def open_batch(packed: str) -> tuple[Header, bytes]:
    """The header of a batch, and its lines as one piece, not counted; raises as split_batch does."""
    head, _, body = packed.encode("utf-8", "surrogatepass").partition(b"\n")
    return _read_header(head), body


def check_ends(ends: int) -> None:
    """Raises WireError if a batch's lines end more often than is allowed."""
    if ends >= MAX_LINES:
        raise WireError(f"the batch has more than {MAX_LINES} lines")


def split_lines(body: bytes) -> list[bytes]:
    """A batch's lines, without empty ones; raises WireError if there are too many."""
    check_ends(len(body) - len(body.replace(b"\n", b"")))  # count takes five times as long
    return [line for line in body.split(b"\n") if line]


def _read_header(head: bytes) -> Header:
    try:
        fields = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise WireError("the batch's first line is not JSON") from error
    if not isinstance(fields, dict):
        raise WireError(f"the batch's first line is {_json_type(fields)}, not an object")
    version = _checked(fields, "version", VERSION)
    if version > VERSION:
        raise NewerVersionError(version)
    if version not in READABLE:
        raise WireError(f"the batch has wire version {version}, which this worker doesn't read")
    return Header(
        batch_id=_checked(fields, "batch_id", ""),
        event_type=_checked(fields, "event_type", ""),
        count=_checked(fields, "count", 0),
        version=version,
        **{name: _checked(fields, name, default) for name, default in _HEADER_DEFAULTS.items() if name in fields},
    )


def _checked(fields: Mapping[str, Any], name: str, like: Any) -> Any:
    """A header's field, checked to have exactly the type of `like`: the JSON may not be from birdfeed."""
    if name not in fields:
        raise WireError(f"the batch's header has no {name}")
    value = fields[name]
    if type(value) is not type(like):
        raise WireError(f"the header's {name} is {_json_type(value)}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise WireError(f"the header's {name} is longer than {MAX_TEXT} characters")
    if type(value) is int and not 0 <= value <= MAX_COUNT:
        raise WireError(f"the header's {name} is not a count")
    return value


def read_event(header: Header, line: bytes) -> Envelope:
    """One event from its line.

    Raises:
        WireError: The line is not JSON, or lacks an event_id, an occurred_at or an object as data.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WireError("the event's line is not JSON") from error
    return envelope_from(header, fields)


def read_events(batch: Batch) -> list[Envelope]:
    """All events of a batch in one parse.

    Raises:
        WireError: A line is damaged; read them one by one with read_event to find it.
    """
    try:
        parsed = orjson.loads(b"[" + b",".join(batch.lines) + b"]")
    except orjson.JSONDecodeError as error:
        raise WireError("a line of the batch is not JSON") from error
    if len(parsed) != len(batch.lines):
        raise WireError("a line of the batch holds more than one value")
    return [envelope_from(batch.header, fields) for fields in parsed]


def envelope_from(header: Header, fields: Any) -> Envelope:
    """An Envelope from a parsed line; raises WireError as read_event does."""
    try:
        event_id, data = fields["event_id"], fields["data"]
        occurred_at = iso_time(fields["occurred_at"])
        if not _canonical_uuid(event_id):
            event_id = str(UUID(event_id))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"the event's line lacks a readable event_id or occurred_at: {type(error).__name__}") from error
    if not isinstance(data, dict):
        raise WireError(f"the event's data is {_json_type(data)}, not an object")
    if occurred_at.tzinfo is None:
        raise WireError("the event's occurred_at has no time zone")
    if not EARLIEST <= occurred_at < LATEST:
        raise WireError(f"the event's occurred_at is not between {EARLIEST.year} and {LATEST.year}")
    dropped, cut = fields.get("dropped_fields", 0), fields.get("truncated", 0)
    return Envelope(
        event_id=event_id,
        event_type=header.event_type,
        occurred_at=occurred_at,
        data=data,
        dropped_fields=dropped if type(dropped) is int and 0 <= dropped <= MAX_DROPPED else 0,
        truncated=cut if type(cut) is int and 0 <= cut <= MAX_DROPPED else 0,
        version=header.version,
    )


def format_time(when: datetime) -> str:
    """A time in the wire format: UTC, ISO 8601 with microseconds and Z."""
    utc = when if when.tzinfo is UTC else when.astimezone(UTC)
    # Cutting "+00:00" off takes a third of the time that removing the zone first would.
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def iso_time(text: str) -> datetime:
    """A time in ISO 8601, read as typed/lines.py does; if that rejects it (a date alone, say), as Python does.

    Raises:
        ValueError: It is not such a time.
    """
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return datetime.fromisoformat(text)


def _json_type(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
