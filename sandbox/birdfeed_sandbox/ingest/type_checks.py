"""Checks of values for columns: which are accepted, how they are converted, and which quarantine their row.

A check has a set of Python types that pass unchanged (`plain`); a column with only those needs one test. All other
values go through `convert`, one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from birdfeed_sandbox.ingest.column_types import ColumnType, parse_type
from birdfeed_sandbox.ingest.values import Reject, as_text, wrong

_DAY = r"(?P<y>\d{4})-(?P<m>0[1-9]|1[0-2])-(?P<d>0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_CLOCK = rf"(?:[T ]{_TIME}\s?(?:Z|UTC|[+-]\d\d:?\d\d)?)?"
#: Days that every month has, so that no calendar is needed.
_SAFE_DAY = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_DECIMAL = re.compile(r"[+-]?(\d+)(?:\.\d*)?(?:[eE][+-]?\d+)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_ENUM_MEMBER = re.compile(r"'((?:[^'\\]|\\.)*)'\s*(?:=\s*(-?\d+))?")
_INT = re.compile(r"(U?)Int(8|16|32|64|128|256)")
_DECIMAL_PRECISION = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
_ANY: Final = frozenset({str, int, float, bool, list, dict})


@dataclass(frozen=True, slots=True)
class Check:
    """Checks values for a column of one type; nulls are handled elsewhere.

    Attributes:
        plain: Types of values that pass unchanged, if `sound` accepts them.
        convert: Takes a value, returns what is written; raises Reject.
        sound: Tests one or more plain values at once; None: all are accepted.
    """

    plain: frozenset[type]
    convert: Callable[[Any], Any]
    sound: Callable[[list[Any]], bool] | None = None

    def passes(self, values: list[Any]) -> bool:
        """Whether all of these values, none of them null, pass unchanged."""
        return not values or (set(map(type, values)) <= self.plain and (self.sound is None or self.sound(values)))


def check_for(type_: ColumnType) -> Check:
    """The check for a column's type; values of unknown types pass unchanged, and the engine decides."""
    name = type_.name
    if (integer := _INT.fullmatch(name)) is not None:
        return _integers(name, signed=not integer[1])
    if name.startswith("Decimal"):
        return _decimals(type_)
    match name:
        case "String":
            return Check(_ANY, as_text)  # the engine accepts an object, array or number as its JSON text
        case "FixedString":
            return _fixed_strings(int(type_.arguments[0]))
        case "Float32" | "Float64" | "BFloat16":
            return Check(frozenset({int, float}), _float)
        case "Bool":
            return Check(frozenset({bool}), _bool)
        case "DateTime" | "DateTime64":
            return _times(name, _CLOCK)
        case "Date" | "Date32":
            return _times(name, "")
        case "UUID":
            return _matching(name, _UUID)
        case "Enum8" | "Enum16" | "Enum":
            return _enum(type_.arguments)
        case "Array":
            return _arrays(check_for(parse_type(type_.arguments[0])))
        case "Map":
            return _maps(check_for(parse_type(type_.arguments[1])))
        case _:
            return Check(_ANY, _as_it_is)


#: Integers outside this range are passed to the engine as text, which JSON libraries and ClickHouse both support.
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1


def _integers(name: str, *, signed: bool) -> Check:
    def convert(value: Any) -> Any:
        if not isinstance(value, int):
            raise wrong(value, name)
        if value < 0 and not signed:
            raise Reject(f"Unsigned type {name} must not contain '-' symbol: {value}")
        whole = int(value)  # true is 1
        return whole if _SMALLEST <= whole <= _LARGEST else str(whole)

    def sound(values: list[Any]) -> bool:
        return signed or bool(min(values) >= 0)

    return Check(frozenset({int}), convert, sound)


def _float(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise wrong(value, "Float")
    return float(value)


def _bool(value: Any) -> Any:
    if value is True or value is False:
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise wrong(value, "Bool")


def _decimals(type_: ColumnType) -> Check:
    numbers = [int(argument) for argument in type_.arguments]
    precision = _DECIMAL_PRECISION.get(type_.name, numbers[0])
    scale = numbers[-1] if len(numbers) == 2 or type_.name != "Decimal" else 0
    name = f"Decimal({precision},{scale})"
    limit = 10 ** (precision - scale)

    def convert(value: Any) -> Any:
        match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
        if isinstance(value, bool) or not (match or isinstance(value, int | float)):
            raise wrong(value, name)
        if abs(float(value)) >= limit:
            raise Reject(f"{value} is out of range for {name}")
        return str(value) if isinstance(value, int) else value

    def sound(values: list[Any]) -> bool:
        smallest, largest = min(values), max(values)
        return bool(-limit < smallest and largest < limit and smallest >= _SMALLEST and largest <= _LARGEST)

    return Check(frozenset({int, float}), convert, sound)


def _fixed_strings(length: int) -> Check:
    def convert(value: Any) -> str:
        text = as_text(value)
        if len(text.encode()) > length:
            raise Reject(f"Too large value for FixedString({length}): {text[:100]}")
        return text

    return Check(frozenset(), convert)


def _times(name: str, clock: str) -> Check:
    form = re.compile(_DAY + clock)
    safe = re.compile(_SAFE_DAY + clock).fullmatch

    def convert(value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value  # seconds (for a Date: days) since 1970
        match = form.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise wrong(value, name)
        if int(match["d"]) > 28:
            try:
                date(int(match["y"]), int(match["m"]), int(match["d"]))
            except ValueError as error:
                raise wrong(value, name) from error
        return value

    return Check(frozenset({str}), convert, lambda values: all(map(safe, values)))


def _matching(name: str, form: re.Pattern[str]) -> Check:
    def convert(value: Any) -> Any:
        if not isinstance(value, str) or form.fullmatch(value) is None:
            raise wrong(value, name)
        return value

    return Check(frozenset({str}), convert, lambda values: all(map(form.fullmatch, values)))


def _enum(members: Iterable[str]) -> Check:
    matches = [match for match in (_ENUM_MEMBER.fullmatch(member) for member in members) if match is not None]
    names = {match[1] for match in matches}
    numbers = {int(match[2]) for match in matches if match[2] is not None}

    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not (value in names if isinstance(value, str) else value in numbers):
            raise wrong(value, f"one of {', '.join(sorted(names))}")
        return value

    return Check(frozenset(), convert)


def _arrays(element: Check) -> Check:
    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise wrong(value, "Array")
        return [None if item is None else element.convert(item) for item in value]

    def sound(values: list[Any]) -> bool:
        return element.passes([item for value in values for item in value if item is not None])

    return Check(frozenset({list}), convert, sound)


def _maps(element: Check) -> Check:
    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(value, "Map")
        return {as_text(key): None if item is None else element.convert(item) for key, item in value.items()}

    def sound(values: list[Any]) -> bool:
        return element.passes([item for value in values for item in value.values() if item is not None])

    return Check(frozenset({dict}), convert, sound)


def _as_it_is(value: Any) -> Any:
    as_text(value)
    return value
