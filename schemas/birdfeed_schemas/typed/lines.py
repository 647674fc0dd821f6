"""Events' lines decoded, checked and typed in one step, by structs that are derived from the models in events.py.

A struct accepts only what birdfeed's producer sends: fields under their own names, within the lengths that rows store,
with the types they have in JSON. A line that doesn't fit is read by the model, which is lenient and says what is wrong;
a test compares the two, event by event and row by row.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, get_type_hints

import msgspec
import orjson
from msgspec import Meta, Raw, Struct
from pydantic import StrictBool, StrictStr

from birdfeed_schemas import events
from birdfeed_schemas.events import Event, read_time
from birdfeed_schemas.fields import SPELLINGS
from birdfeed_schemas.wire.envelope import EARLIEST, LATEST, MAX_DROPPED, VERSION, check_ends

Text: TypeAlias = Annotated[str, Meta(max_length=events.MAX_TEXT)]
Whole: TypeAlias = Annotated[int, Meta(ge=0, le=events.MAX_COUNT)]
Dropped: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_DROPPED)]
#: What an amount may be in JSON; the model's own function makes a Decimal from it.
Amount: TypeAlias = int | float | str | None
#: Positions of the dashes in an event id (a UUID in its usual form), and its length.
_DASHES: Final = (8, 13, 18, 23)
_ID_LENGTH: Final = 36
_HEX_DIGITS: Final = b"0123456789abcdef"


class ErrorData(Struct, gc=False):
    """An error, with the fields of EventError; other keys are ignored."""

    type: Text = ""
    message: Annotated[str, Meta(max_length=events.MAX_ERROR_MESSAGE)] = ""
    code: Text = ""
    traceback: Annotated[str, Meta(max_length=events.MAX_TRACEBACK)] = ""


class Line(Struct, gc=False, kw_only=True):
    """An Envelope whose data is already an event. It has no type or version of its own: those are the batch's."""

    event_id: Annotated[str, Meta(min_length=_ID_LENGTH, max_length=_ID_LENGTH)]
    occurred_at: Annotated[datetime, Meta(tz=True)]
    data: Any
    event_type: str = ""
    dropped_fields: Dropped = 0
    truncated: Dropped = 0
    version: Literal[1] = VERSION


#: Type of a model's field → type of the struct's. A model with a field of another type has no struct.
_TYPES: Final[tuple[tuple[Any, Any], ...]] = (
    (events.Name, Annotated[str, Meta(min_length=1, max_length=events.MAX_TEXT)]),
    (StrictStr | None, Text | None),
    (StrictBool | None, bool | None),
    (events.Time, datetime | float | None),
    (events.Duration | None, Annotated[float, Meta(ge=0, le=events.MAX_DURATION_MS)] | None),
    (events.Status | None, events.Status | None),
    (events.Failure, ErrorData | None),
    (events.Count | None, Whole | None),
    (events.Share | None, Annotated[float, Meta(gt=0, le=1)] | None),
    (events.ReportedCost, Amount),
    (events.Seconds, Amount),
    (events.Verdicts, Raw),
    (Any, Raw),
)


class KnownVerdicts(dict[str, Any]):
    """A moderation result without numbers. Few different ones exist, so rows with the same one can share their JSON."""

    def __init__(self, found: dict[str, Any], text: bytes) -> None:
        super().__init__(found)
        self._text = text

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self._text)


#: Moderation results without numbers that were read before, by their JSON. It comes from handlers, so both its length
#: and their number must be bounded.
_known: Final[dict[bytes, KnownVerdicts]] = {}
_MAX_KNOWN: Final = 256
_MAX_KNOWN_BYTES: Final = 1_024
_DIGITS: Final = b"0123456789"


def _verdicts(raw: Raw) -> dict[str, Any] | None:
    text = bytes(raw)
    if (known := _known.get(text)) is not None:
        return known
    found = orjson.loads(text)
    if not isinstance(found, dict | None):
        raise ValueError
    if not found or len(text) > _MAX_KNOWN_BYTES or len(text.translate(None, _DIGITS)) != len(text):
        return found
    known = KnownVerdicts(found, text)
    if len(_known) < _MAX_KNOWN:
        _known[text] = known
    return known


def _allowed(raw: Raw) -> tuple[Any]:
    return (orjson.loads(bytes(raw)),)


#: Field → the function that reads it further, if the event has it.
_READ: Final = (
    (events.ReportedCost, events.reported_cost),
    (events.Seconds, events.read_seconds),
    (events.Verdicts, _verdicts),
)


#: Prefix of the attributes for the operator's fields, which may have any name.
_EXTRA: Final = "extra_"


#: A 64-bit integer; the model reads longer ones.
_Key: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Lines: TypeAlias = msgspec.json.Decoder[list[Line]]


class UntypedError(Exception):
    """The line doesn't fit its struct: the model must read it."""


class Typed(NamedTuple):
    """Decodes the lines of one event type.

    Attributes:
        lines: Decodes a JSON list of lines.
        with_keys: The same, but it accepts integers (database keys) as identifiers.
        identifiers: The fields that may hold such integers.
        usage: Reads a usage's JSON.
        read: Fields that are read further, each with its function.
        read_values: Their values; of most events all are None, which is one call to find out.
    """

    lines: _Lines
    with_keys: _Lines
    identifiers: tuple[str, ...]
    usage: Callable[[bytes], Any]
    read: tuple[tuple[str, Callable[[Any], Any]], ...]
    read_values: Callable[[Any], tuple[Any, ...]]

    def read_body(self, body: bytes) -> list[Line]:
        """Every line of a batch, in one parse.

        Raises:
            WireError: There are too many lines.
            UntypedError: A line doesn't fit, or is empty; read_line finds which.
        """
        # As a list, because msgspec's decode_lines would also read two values on a line, or one on two.
        listed = body.replace(b"\n", b",\n")
        ends = len(listed) - len(body)  # a comma for each
        check_ends(ends)
        found = self._decoded(b"".join((b"[", listed, b"]")))
        if len(found) != (ends + 1 if body else 0):
            raise UntypedError
        self._finish(found)
        return found

    def read_line(self, line: bytes) -> Line:
        """One line; raises UntypedError if it doesn't fit."""
        found = self._decoded(b"".join((b"[", line, b"]")))
        if len(found) != 1:
            raise UntypedError
        self._finish(found)
        return found[0]

    def _decoded(self, listed: bytes) -> list[Line]:
        """Decode as usual; if that fails, accept integers as identifiers and turn them into text."""
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return self.lines.decode(listed)
        try:
            found = self.with_keys.decode(listed)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise UntypedError from None
        for line in found:
            data = line.data
            for name in self.identifiers:
                if (value := getattr(data, name)).__class__ is int:
                    setattr(data, name, str(value))
        return found

    def _finish(self, lines: list[Line]) -> None:
        """Check and convert what types can't express: dates, zones, amounts, and JSON of any shape."""
        read_further, read_usage, values = self.read, self.usage, self.read_values
        nothing = (None,) * (len(read_further) + 1)
        if not _are_ids([line.event_id for line in lines]) or not _are_dates([line.occurred_at for line in lines]):
            raise UntypedError
        try:
            for line in lines:
                data = line.data
                when = data.start_time
                if when is not None and (when.__class__ is not datetime or when.tzinfo is not UTC):
                    data.start_time = read_time(when)
                when = data.end_time
                if when is not None and (when.__class__ is not datetime or when.tzinfo is not UTC):
                    data.end_time = read_time(when)
                if data.usage is not None:
                    data.usage = read_usage(bytes(data.usage))
                if values(data) == nothing:
                    continue
                for name, read in read_further:
                    value = getattr(data, name)
                    if value is not None:
                        setattr(data, name, read(value))
        except (ValueError, OverflowError):
            raise UntypedError from None


def _are_ids(texts: list[str]) -> bool:
    """Whether these texts of _ID_LENGTH characters are UUIDs as str(UUID) writes them.

    All are checked together: matching a pattern for each would take a quarter of the whole parse.
    """
    joined = "".join(texts).encode()
    return (
        len(joined) == _ID_LENGTH * len(texts)
        and all(joined[place::_ID_LENGTH].count(b"-") == len(texts) for place in _DASHES)
        and joined.translate(None, _HEX_DIGITS) == b"-" * (len(_DASHES) * len(texts))
    )


def _are_dates(times: list[datetime]) -> bool:
    """Whether these are valid times for events to have occurred at."""
    return not times or (min(times) >= EARLIEST and max(times) < LATEST)


def typed(
    name: str,
    model: type[Event],
    extra: frozenset[str] = frozenset(),
    read_usage: Callable[[bytes], Any] = orjson.loads,
) -> Typed | None:
    """A decoder of an event type's lines, with a struct that has its model's fields.

    Args:
        extra: Names of further fields that the operator stores.
        read_usage: Turns a usage's JSON into the event's usage; raises ValueError.

    Returns:
        None for a type that another package adds: only its model knows what its fields mean, and its row builder needs
        the model.
    """
    if name not in SPELLINGS:
        return None
    hints = get_type_hints(model, include_extras=True)
    fields = {field: hints[field] for field in model.model_fields}
    own = [(f"{_EXTRA}{number}", other) for number, other in enumerate(sorted(extra - SPELLINGS[name].keys()))]

    def decoder(identifier: Any) -> _Lines:
        struct = msgspec.defstruct(
            model.__name__,
            [
                *((field, _struct_type(hint, identifier), *(() if field == "model" else (None,)))
                  for field, hint in fields.items()),
                *((attribute, Raw, msgspec.field(default=None, name=other)) for attribute, other in own),
            ],
            namespace={"failed": Event.failed, "is_text": model.is_text},
            forbid_unknown_fields=True,
            gc=False,
            kw_only=True,
        )  # fmt: skip
        line = msgspec.defstruct(
            "Line", [("data", struct), ("event_type", Literal[name], name)], bases=(Line,), gc=False, kw_only=True
        )
        return msgspec.json.Decoder(list[line])  # type: ignore[valid-type]

    read = (
        *((field, read) for field, hint in fields.items() for one, read in _READ if hint == one),
        *((attribute, _allowed) for attribute, _ in own),
    )
    names = [name for name, _ in read]
    return Typed(
        decoder(Text | None),
        decoder(Text | _Key | None),
        tuple(field for field, hint in fields.items() if hint == events.Identifier | None),
        read_usage,
        read,
        attrgetter(*names, names[0]),  # twice the first, because of one name it would not make a tuple
    )


def extra_of(event: Struct) -> dict[str, Any]:
    """The operator's extra fields of a typed event, by name."""
    found: dict[str, Any] = {}
    for attribute, name in zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True):
        if attribute.startswith(_EXTRA) and (value := getattr(event, attribute)) is not None:
            found[name] = value[0]
    return found


def _struct_type(hint: Any, identifier: Any) -> Any:
    if hint == events.Identifier | None:
        return identifier
    return next(struct_type for model_type, struct_type in _TYPES if model_type == hint)
