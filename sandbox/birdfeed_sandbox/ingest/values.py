"""Values out of JSON: as text, and the reason why one is refused."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

#: Longest piece of a value that an error text repeats.
_SHOWN: Final = 100


class Reject(Exception):  # noqa: N818 - a verdict, not a fault
    """This value puts its row into quarantine; the text is the reason."""


def as_text(value: Any) -> str:
    """A value as a String column holds it: text as it is, everything else as its JSON.

    Raises:
        Reject: It holds a lone surrogate, which no UTF-8 can write.
    """
    if not isinstance(value, str):
        try:
            return orjson.dumps(value).decode()
        except TypeError:
            value = json_text(value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Reject("Invalid UTF-8: lone surrogate in a string") from error
    return str(value)


def json_text(value: Any) -> str:
    """A value as JSON, also where it holds lone surrogates or whole numbers of any size."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def wrong(value: Any, type_name: str) -> Reject:
    """The reason for a value of the wrong kind."""
    kind = {str: "String", bool: "Bool", int: "Number", float: "Number", list: "Array", dict: "Object"}[type(value)]
    shown = json_text(value).encode(errors="backslashreplace").decode()
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return Reject(f"Invalid value, should be {type_name} but is {kind}: {shown}")
