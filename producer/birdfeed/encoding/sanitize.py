"""Make anything a handler passes into plain JSON: SDK objects, exceptions, sets, NaN, circular structures.

Two ways in. `unwrap` is orjson's `default`: it turns one unknown object into something orjson may know. Where orjson
still gives up (a lone surrogate, an integer beyond 64 bits, a circle), `clean` walks the whole structure and replaces
what can't be kept. Iterators and generators are never read: they may be the handler's own stream.
"""

import dataclasses
import traceback
from collections import deque
from collections.abc import KeysView, Mapping, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any, Final
from uuid import UUID

#: Levels of nesting that are kept; usage and moderation have at most five.
MAX_DEPTH: Final = 32
#: Values looked at in one event; what lies beyond becomes null. Guards against shared structures that unfold.
MAX_VALUES: Final = 20_000
#: Characters of an exception's message or an unknown object's text: they can hold prompts.
MAX_TEXT: Final = 2_000
#: Characters of a traceback.
MAX_TRACEBACK: Final = 20_000

#: How SDKs' objects give their content, in the order of trust.
_DUMPERS: Final = ("model_dump", "to_dict", "_asdict", "dict")
_INT64: Final = range(-(2**63), 2**64)


def unwrap(value: object, *, keep_traceback: bool = False) -> object:
    """One step from an object that JSON doesn't know towards one that it knows.

    Raises:
        Exception: Whatever the object's own code raises; the caller falls back to `clean`.
    """
    if isinstance(value, BaseException):
        return describe(value, keep_traceback=keep_traceback)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, timedelta):
        return value / timedelta(milliseconds=1)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type | ModuleType):
        return value.__name__
    for name in _DUMPERS:
        dump = getattr(value, name, None)
        if callable(dump):
            dumped = dump()
            # A mock answers every call with another mock; only real content counts.
            if isinstance(dumped, Mapping | list | tuple | str | int | float):
                return dumped
    if isinstance(value, set | frozenset | tuple | deque | KeysView | ValuesView):
        return list(value)
    if type(value).__module__.partition(".")[0] == "numpy":
        return value.tolist()  # type: ignore[attr-defined]  # numpy's scalars and arrays have it
    if callable(fields := getattr(value, "ListFields", None)):  # a protobuf message
        return {field.name: content for field, content in fields()}
    if attributes := _attributes(value):
        return attributes
    return str(value)[:MAX_TEXT]


def describe(error: BaseException, *, keep_traceback: bool = False) -> dict[str, str]:
    """An exception as an event's `error`: type and message, the SDK's code if it has one."""
    described = {"type": type(error).__name__}
    try:
        described["message"] = str(error)[:MAX_TEXT]
    except Exception as failure:
        described["message"] = f"(its text could not be made: {type(failure).__name__})"
    for name in ("code", "status_code"):
        try:
            code = getattr(error, name, None)
        except Exception:
            continue  # a property of the SDK that raises has no code to tell
        if isinstance(code, str | int) and not isinstance(code, bool):
            described["code"] = str(code)[:MAX_TEXT]
            break
    if keep_traceback:
        lines = traceback.format_exception(error)
        described["traceback"] = "".join(lines)[-MAX_TRACEBACK:]
    return described


def clean(value: object, *, keep_traceback: bool = False) -> object:
    """Plain JSON as near to `value` as can be; what can't be kept is null. Never raises an Exception, always ends."""
    return _Cleaner(keep_traceback).clean(value, 0)


class _Cleaner:
    """One walk through one event."""

    def __init__(self, keep_traceback: bool) -> None:
        self._keep_traceback = keep_traceback
        self._left = MAX_VALUES
        self._inside: set[int] = set()

    def clean(self, value: object, depth: int) -> object:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            return None
        try:
            return self._clean(value, depth)
        except Exception:
            # The object's own code failed (__getattr__, __str__, a changing dict): its place stays, empty. The
            # event is counted as mended by the caller, so this is not silent.
            return None

    def _clean(self, value: object, depth: int) -> object:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, Enum):
            return self.clean(value.value, depth + 1)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, int):
            return int(value) if value in _INT64 else str(int(value))
        if isinstance(value, float):
            return float(value) if value == value and abs(value) != float("inf") else None
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, UUID):
            return str(value)
        if id(value) in self._inside:
            return None
        self._inside.add(id(value))
        try:
            return self._clean_inside(value, depth)
        finally:
            self._inside.discard(id(value))

    def _clean_inside(self, value: object, depth: int) -> object:
        if isinstance(value, Mapping):
            cleaned: dict[str, object] = {}
            for key, content in list(value.items()):
                if (name := _key(key)) is not None:
                    cleaned[name] = self.clean(content, depth + 1)
            return cleaned
        if isinstance(value, list | set | frozenset | deque) or type(value) is tuple:
            return [self.clean(content, depth + 1) for content in list(value)]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: self.clean(getattr(value, f.name, None), depth + 1) for f in dataclasses.fields(value)}
        try:
            unwrapped = unwrap(value, keep_traceback=self._keep_traceback)
        except Exception:
            unwrapped = _attributes(value) or None
        return self.clean(unwrapped, depth + 1)


def _key(key: object) -> str | None:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return _text(key)
    return str(key) if isinstance(key, int | float | UUID) or key is None else None


def _text(text: str) -> str:
    """Text without lone surrogates, which UTF-8 can't hold; two that make a pair become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str.__str__(text)


def _decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    # Plain digits, for the worker reads counts from digit strings; but 1E+999999 stays as it is.
    return format(value, "f") if -30 < value.adjusted() < 30 else str(value)


def _attributes(value: object) -> dict[str, Any]:
    """The public attributes an object really holds; properties are not called."""
    found: dict[str, Any] = {}
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        found.update((name, content) for name, content in own.items() if isinstance(name, str) and name[:1] != "_")
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name[:1] != "_" and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
