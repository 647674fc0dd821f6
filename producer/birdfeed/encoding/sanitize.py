"""Turn handlers' data into plain JSON, within bounds: SDK objects, exceptions, sets, NaN, cycles, deep nesting.

Everything here counts the values it reads. At a bound it cuts, and counts the cut. What JSON can't hold, and what
raises when it is read, becomes null or is left out, and is counted as dropped. Iterators and generators are never read:
they may be the handler's own stream. The time that objects' own code takes (`model_dump`, properties) is not bounded.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from enum import Enum
from itertools import islice
from types import ModuleType
from typing import Any, Final
from uuid import UUID

#: The methods by which SDKs' objects return their content, most reliable first.
_DUMPERS: Final = ("model_dump", "to_dict", "_asdict", "dict")
#: The smallest and the largest integer that the JSON libraries used here accept.
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
#: Bits of the largest integer that is written as digits: the time to convert grows quadratically.
_MAX_BITS: Final = 512
#: Digits kept of a Decimal.
_DIGITS: Final = Context(prec=50)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque, KeysView, ValuesView)
_STRUCTURES: Final = (dict, *_SEQUENCES, Mapping)

#: Stands for a value that JSON can't hold (None is a value).
NOTHING: Final = object()
#: Replaces text in a field that holds none, so that the worker still sees that the value was wrong.
TEXT_TAKEN_OUT: Final = "(text)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that is read of one event: levels of nesting, values, and characters of one text."""

    depth: int = 8
    items: int = 1_000
    text: int = 512


class Sanitizer:
    """One walk through one event's data. It counts the `dropped` values and the `cut` ones."""

    __slots__ = ("_bounds", "_inside", "_left", "cut", "dropped", "sanitized", "strict")

    def __init__(self, bounds: Bounds, *, strict: bool = True) -> None:
        """Without `strict`, values of the right type are not checked further: the JSON encoder may yet reject them."""
        self.strict = strict
        self._bounds = bounds
        self._left = bounds.items
        self._inside: set[int] = set()
        self.dropped = 0
        self.cut = 0
        #: Whether a value was replaced by the nearest one that JSON can hold.
        self.sanitized = False

    # ---- single values

    def look(self) -> bool:
        """Count one value as read; if that exceeds the bound, count a cut and return False."""
        self._left -= 1
        if self._left < 0:
            self.cut += 1
            return False
        return True

    def spend(self, values: int) -> None:
        """Count values as read."""
        self._left -= values

    def text(self, value: str, longest: int | None = None) -> str:
        """Text of at most `longest` characters, without lone surrogates, which UTF-8 can't hold."""
        longest = self._bounds.text if longest is None else longest
        if str.__len__(value) > longest:
            self.cut += 1
        value = str.__getitem__(value, slice(longest))
        try:
            value.encode()
        except UnicodeEncodeError:
            self.sanitized = True
            # Two surrogates that form a pair become their character.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value

    def scalar(self, value: object) -> Any:
        """`value` as text, number, boolean or null; NOTHING for anything else. Never raises an Exception."""
        try:
            return self._scalar(value)
        except Exception:  # raised by the object's own code; the caller counts it as dropped
            return NOTHING

    def _scalar(self, value: object) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return float.__add__(value, 0.0)
        if isinstance(value, Enum):
            return NOTHING if isinstance(value.value, Enum) else self._scalar(value.value)
        if isinstance(value, Decimal):
            return _decimal(value)
        if isinstance(value, datetime):
            return time_text(value)
        if isinstance(value, date):
            return date.isoformat(value)
        if isinstance(value, time):
            return time.isoformat(value)
        if isinstance(value, timedelta):
            return value / timedelta(milliseconds=1)
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, bytes | bytearray):
            return self.text(bytes(value[: self._bounds.text + 1]).decode("utf-8", "replace"))
        if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", 1) == 0:
            item = value.item()  # type: ignore[attr-defined]  # numpy's scalars have it
            return NOTHING if type(item) is type(value) else self._scalar(item)
        return NOTHING

    # ---- structures

    def items_of(self, mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
        """A mapping's items, as many as may still be read; a copy, which no other thread can change."""
        if type(mapping) is dict and len(mapping) <= max(0, self._left):
            return list(mapping.items())  # atomic
        return self.parts_of(mapping.items())

    def parts_of(self, sequence: Iterable[Any]) -> list[Any]:
        """A sequence's elements, as many as may still be read."""
        left = max(0, self._left)
        found = list(islice(sequence, left + 1))
        if len(found) > left:
            self.cut += 1
        return found[:left]

    def opened(self, value: object) -> object:
        """The content of an object of any class as a mapping, a sequence or a scalar; NOTHING if it has none.

        Raises:
            Exception: Whatever the object's own code raises.
        """
        if isinstance(value, _STRUCTURES):
            return value
        if callable(dump := getattr(type(value), "model_dump", None)) and not isinstance(value, type | BaseException):
            try:
                if isinstance(dumped := dump(value), dict):  # a pydantic model, as nearly all SDKs' objects are
                    return dumped
            except Exception:
                return attributes_of(value) or NOTHING
        if (plain := self._scalar(value)) is not NOTHING:
            return plain
        if isinstance(value, memoryview):
            return self._scalar(bytes(value[: self._bounds.text + 1]))
        if isinstance(value, type | ModuleType):
            return NOTHING
        try:
            dumped = _dump(value)
        except Exception:
            dumped = NOTHING  # its attributes are read instead
        if dumped is not NOTHING:
            return dumped
        return attributes_of(value) or NOTHING

    def json(self, value: object, depth: int = 0) -> Any:
        """`value` as plain JSON within the bounds; null if nothing of it can be kept. Never raises."""
        if not self.look():
            return None
        plain = self.scalar(value)
        if plain is not NOTHING:
            return plain
        if depth >= self._bounds.depth:
            self.cut += 1
            return None
        if id(value) in self._inside:
            self.dropped += 1
            return None
        self._inside.add(id(value))
        try:
            return self._structure(value, depth)
        except Exception:  # the object's own code raised, or another thread changed the structure: it becomes null
            self.dropped += 1
            return None
        finally:
            self._inside.discard(id(value))

    def _structure(self, value: object, depth: int) -> Any:
        if isinstance(value, Mapping):
            kept: dict[str, Any] = {}
            for key, part in self.items_of(value):
                if (name := self.key(key)) is not None:
                    kept[name] = self.json(part, depth + 1)
            return kept
        if isinstance(value, _SEQUENCES) and not hasattr(value, "_asdict"):
            return [self.json(part, depth + 1) for part in self.parts_of(value)]
        if isinstance(value, tuple):
            return self._structure(value._asdict(), depth)  # type: ignore[attr-defined]
        opened = self.opened(value)
        if opened is NOTHING:
            self.dropped += 1
            return None
        return self.json(opened, depth + 1)

    def key(self, key: object) -> str | None:
        """A mapping's key as text; None, counted as dropped, if it can't be text."""
        plain = self.scalar(key)
        if isinstance(plain, str):
            return plain
        if plain is NOTHING:
            self.dropped += 1
            return None
        return str(plain)


def time_text(when: datetime) -> str:
    """ISO 8601 with a zone. A datetime without one is local time, as Python says.

    Raises:
        Exception: Whatever a foreign tzinfo raises.
    """
    if datetime.utcoffset(when) is None:
        try:
            when = datetime.astimezone(when)
        except (OverflowError, ValueError, OSError):  # near year 1 or 9999, which time zone tables don't cover
            when = when.replace(tzinfo=UTC)
    return datetime.isoformat(when)


def attributes_of(value: object) -> dict[str, Any]:
    """The public attributes that an object stores; properties are not called."""
    found: dict[str, Any] = {}
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    if isinstance(own, dict):
        found.update((name, content) for name, content in own.items() if isinstance(name, str) and name[:1] != "_")
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name[:1] != "_" and hasattr(value, name):
                found[name] = getattr(value, name)
    if _is_mock(value):
        found = {name: part for name, part in found.items() if name not in _MOCK_ATTRIBUTES}
    return found


_MOCK_ATTRIBUTES: Final = frozenset({"method_calls", "await_args", "await_count", "await_args_list"})


def _is_mock(value: object) -> bool:
    return any(kind.__module__ == "unittest.mock" for kind in type(value).__mro__)


def _dump(value: object) -> object:
    """The content that an SDK's object returns by one of the _DUMPERS, or NOTHING."""
    if isinstance(value, BaseException):
        return NOTHING
    for name in _DUMPERS:
        dump = getattr(value, name, None)
        if callable(dump) and not isinstance(value, type):
            dumped = dump()
            # A mock answers every call with another mock; accept only real content.
            if isinstance(dumped, Mapping | list | tuple | str | int | float):
                return dumped
    if type(value).__module__.partition(".")[0] == "numpy":
        return value.tolist()  # type: ignore[attr-defined]  # numpy's arrays have it
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if callable(fields := getattr(value, "ListFields", None)) and isinstance(listed := fields(), list):
        return {field.name: content for field, content in listed}  # a protobuf message
    return NOTHING


def _integer(value: int) -> Any:
    """A plain int from any subclass of int; digits if it exceeds 64 bits, NOTHING if it exceeds _MAX_BITS."""
    plain = int.__add__(value, 0)
    if _INT_MIN <= plain <= _INT_MAX:
        return plain
    return str(plain) if plain.bit_length() <= _MAX_BITS else NOTHING


def _decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    value = _DIGITS.plus(value)
    # Plain digits, because the worker reads counts from digit strings; but 1E+999999 stays as it is.
    return format(value, "f") if -30 < value.adjusted() < 30 else str(value)
