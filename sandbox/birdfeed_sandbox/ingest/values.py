"""JSON values as text, and the reason why one is rejected."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

#: Characters of a value that an error message repeats at most.
_SHOWN: Final = 100


class Reject(Exception):  # noqa: N818 - a verdict, not a fault
    """This value quarantines its row; the message is the reason."""


def as_text(value: Any) -> str:
    """A value as a String column stores it: text unchanged, everything else as JSON.

    Raises:
        Reject: It holds a lone surrogate, which UTF-8 can't encode.
    """
    if not isinstance(value, str):
        value = json_text(value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Reject("Invalid UTF-8: lone surrogate in a string") from error
    return str(value)


def json_text(value: Any) -> str:
    """A value as JSON, even if it holds lone surrogates or integers of any size."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def received_text(value: Any) -> str | None:
    """A value as the quarantine shows it: lone surrogates are escaped."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json_text(value)
    return text.encode(errors="backslashreplace").decode()


def wrong(value: Any, type_name: str) -> Reject:
    """The rejection of a value of the wrong type."""
    kind = {str: "String", bool: "Bool", int: "Number", float: "Number", list: "Array", dict: "Object"}[type(value)]
    shown = json_text(value).encode(errors="backslashreplace").decode()
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return Reject(f"Invalid value, should be {type_name} but is {kind}: {shown}")
