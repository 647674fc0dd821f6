"""The functions that templates may call: Tinybird's typed parameters, `defined`, `columns`, `error` and others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from birdfeed_sandbox.errors import TemplateError

_MISSING = "Template Syntax Error: Required parameter is not defined."
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_DATE_TIME_64 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3,9}")
_NAME = re.compile(r"[\w ./+-]+")
#: Escapes as Tinybird's: `%` matches literally in LIKE, and because of its backslash equals no other text.
_ESCAPES = str.maketrans(
    {"\\": "\\\\", "'": "\\'", "%": "\\%", "\0": "\\0", "\b": "\\b", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)


class MissingParameterError(TemplateError):
    """A typed parameter without a default was not given."""


class Bare(str):
    """SQL that is printed unchanged."""


class _Typed:
    """A number of a ClickHouse type: it is printed as `toInt32('5')`, but can be computed with."""

    type_name: str

    def __str__(self) -> str:
        return f"to{self.type_name}('{_plain(self)}')"


class _Number(_Typed, int): ...


class _Float(_Typed, float): ...


def print_sql(value: Any) -> str:
    """What `{{ }}` prints for a value."""
    if value is None:
        raise TemplateError("Template Syntax Error: expression evaluated to null")
    if isinstance(value, Bare):
        return value
    if isinstance(value, str):
        return "'" + value.translate(_ESCAPES) + "'"
    if isinstance(value, list | tuple):
        return "[" + ",".join(print_sql(_plain(item)) for item in value) + "]"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise TemplateError(f"Template Syntax Error: can't print a {type(value).__name__}")


def _plain(value: Any) -> Any:
    """A number without its type, as printed in an array."""
    return +value if isinstance(value, _Number | _Float) else value


def _invalid(value: object, type_name: str) -> TemplateError:
    return TemplateError(f"Template Syntax Error: Error validating '{value}' to type {type_name}")


def _typed(read: Callable[[Any], Any]) -> Callable[..., Any]:
    """A template function for one type: it converts the value or the default, and checks nothing else."""

    def function(
        value: Any,
        default: Any = None,
        *,
        description: str | None = None,
        required: bool | None = None,
        enum: Iterable[Any] | None = None,
        example: Any = None,
        format: str | None = None,  # noqa: A002 - Tinybird's own name for it
    ) -> Any:
        given = default if value is None else value
        if given is None:
            raise MissingParameterError(_MISSING)
        return read(given)

    return function


def _whole(type_name: str, low: int, high: int) -> Callable[[Any], _Number]:
    def read(value: Any) -> _Number:
        text = str(int(value)) if isinstance(value, int) else str(value)
        if not re.fullmatch(r"[+-]?\d{1,78}", text) or not low <= int(text) <= high:
            raise _invalid(value, type_name)
        number = _Number(int(text))
        number.type_name = type_name
        return number

    return read


def _float(type_name: str) -> Callable[[Any], _Float]:
    def read(value: Any) -> _Float:
        text = str(float(value)) if isinstance(value, float | int) else str(value)
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
            raise _invalid(value, type_name)
        number = _Float(text)
        number.type_name = type_name
        return number

    return read


def _matching(type_name: str, *forms: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not any(form.fullmatch(str(value)) for form in forms):
            raise _invalid(value, type_name)
        return str(value)

    return read


def _read_json(value: Any) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise TemplateError(f"Template Syntax Error: Error parsing JSON: '{value}' - {error}") from error


_READERS: dict[str, Callable[[Any], Any]] = {
    "String": str,
    "Date": _matching("Date", _DATE),
    "DateTime": _matching("DateTime", _DATE_TIME),
    "DateTime64": _matching("DateTime64", _DATE_TIME_64),
    "Float32": _float("Float32"),
    "Float64": _float("Float64"),
    "JSON": _read_json,
    **{f"Int{n}": _whole(f"Int{n}", -(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64, 128, 256)},
    **{f"UInt{n}": _whole(f"UInt{n}", 0, 2**n - 1) for n in (8, 16, 32, 64, 128, 256)},
}


def _boolean(value: Any, default: Any = None, **_documentation: Any) -> int:
    given = default if value is None else value
    if isinstance(given, str):
        return int(given.lower() not in ("0", "false"))
    return int(bool(given))


def _array(value: Any, type_name: str = "String", default: Any = None, **_documentation: Any) -> list[Any]:
    given = default if value is None else value
    if given is None:
        raise MissingParameterError(_MISSING)
    if type_name not in _READERS:
        raise TemplateError(f"Template Syntax Error: Array of {type_name} is not supported")
    return [_READERS[type_name](item) for item in (given if isinstance(given, list) else str(given).split(","))]


def _defined(value: Any = None) -> bool:
    return value is not None


def _symbol(value: Any) -> Bare:
    if value is None or not _NAME.fullmatch(str(value)):
        raise _invalid(value, "symbol")
    return Bare(f"`{value}`")


def _column(value: Any, default: str | None = None) -> Bare:
    given = default if value is None else value
    if given is None:
        raise TemplateError("Template Syntax Error: Missing column() default value, use `column(name, 'default')`")
    return Bare(".".join(_symbol(part) for part in str(given).split(".")))


def _columns(value: Any, default: str | None = None) -> Bare:
    given = default if value is None else value
    if given is None:
        raise TemplateError("Template Syntax Error: Missing columns() default value, use `columns(names, 'default')`")
    return Bare(",".join(_column(name.strip()) for name in str(given).split(",")))


def _error(message: object, code: int = 400) -> NoReturn:
    raise TemplateError(str(message), code)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _typed(read) for name, read in _READERS.items()},
    "Boolean": _boolean,
    "Array": _array,
    "defined": _defined,
    "column": _column,
    "columns": _columns,
    "error": _error,
    "custom_error": _error,
}

#: The only Python names that a template can use.
BUILTINS: dict[str, Any] = {
    function.__name__: function
    for function in (
        bool,
        enumerate,
        float,
        int,
        isinstance,
        len,
        list,
        max,
        min,
        range,
        round,
        sorted,
        str,
        sum,
        zip,
    )
}
