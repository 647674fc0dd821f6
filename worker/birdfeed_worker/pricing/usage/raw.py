"""The part of a usage that a row stores as sent: numbers, and the few words that change a price. No other text."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
from birdfeed_schemas.tables.meters import KEPT_WORDS

from birdfeed_worker.pricing.usage.formats import MAX_DEPTH, NotACountError, tidy
from birdfeed_worker.pricing.usage.known import KnownShapes, KnownUsage
from birdfeed_worker.pricing.usage.normalise import TABLE, modifiers_in, unwrapped
from birdfeed_worker.pricing.usage.plan import Table, UntidyError

#: Bytes of JSON stored at most; a larger usage is dropped whole, because half of one would be read as another usage.
MAX_RAW: Final = 1_024
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DIGITS: Final = re.compile(r"\s?[0-9]{1,20}(?:\.[0-9]{1,20})?\s?")


class RawUsage(NamedTuple):
    """JSON text for the row, "" if there is nothing; `dropped`: there was a usage, but it isn't stored."""

    text: str = ""
    dropped: bool = False


NOTHING_RAW: Final = RawUsage()
#: Makes a RawUsage without its own constructor, which is slower.
_raw_usage: Final = partial(tuple.__new__, RawUsage)


class _UnkeepableError(Exception):
    """A number has a key that may be private, or is nested too deeply: the stored usage would be incomplete."""


def raw_usage(raw: Any, table: Table = TABLE) -> RawUsage:
    """The usage of an event as its row stores it; of a response, only its usage."""
    if raw.__class__ is KnownUsage:
        return _raw_usage((raw.text, False))
    if not isinstance(raw, Mapping) or not raw:
        return NOTHING_RAW if raw is None or raw == {} else RawUsage(dropped=True)
    try:
        text = orjson.dumps(_kept(_own(raw, table), 0))
    except (_UnkeepableError, NotACountError, TypeError, UntidyError):
        return RawUsage(dropped=True)
    if len(text) > MAX_RAW:
        return RawUsage(dropped=True)
    return RawUsage(text.decode()) if text != b"{}" else RawUsage(dropped=True)


def _own(raw: Mapping[str, Any], table: Table) -> Mapping[str, Any]:
    """The usage inside a wrapper, with its lists unchanged; itself if it is not a wrapper."""
    try:
        plan = table.plan(raw)
        return raw if plan.known else unwrapped(raw, plan, table)[0]
    except UntidyError:
        plain = tidy(raw)
        plan = table.plan(plain)
        own = unwrapped(plain, plan, table)[0]
        return raw if own is plain else own


def _kept(source: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _UnkeepableError
    kept: dict[str, Any] = {}
    for key, value in source.items():
        kind = type(value)
        if kind is int or kind is bool or kind is float:
            if not _KEY.fullmatch(key):
                raise _UnkeepableError
            kept[key] = value
        elif kind is dict:
            inner = _kept(value, depth + 1)
            if inner:
                if not _KEY.fullmatch(key):
                    raise _UnkeepableError
                kept[key] = inner
        elif kind is str:
            if (key in KEPT_WORDS and _WORD.fullmatch(value)) or (_KEY.fullmatch(key) and _DIGITS.fullmatch(value)):
                kept[key] = value
        elif kind is list:
            parts = [_kept(part, depth + 1) for part in value if type(part) is dict]
            if any(parts) and _KEY.fullmatch(key):
                kept[key] = parts
    return kept


#: Reads the usages of events that are typed when they are decoded.
SHAPES: Final = KnownShapes(TABLE, lambda usage: raw_usage(usage).text, modifiers_in, MAX_RAW)
