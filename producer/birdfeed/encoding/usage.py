"""Filter `usage` and `moderation`: keep numbers, and short words where they are expected, and no other text."""

import re
from collections.abc import Mapping
from typing import Any, Final

from birdfeed_schemas.event_structs import (
    MAX_MODERATION_DEPTH,
    MODERATION_NAMES,
    MODERATION_WORDS,
    USAGE_ENUMERATIONS,
    USAGE_NAME,
    USAGE_WORD,
)

from birdfeed.encoding.sanitize import NOTHING, TEXT_TAKEN_OUT, Sanitizer

#: Names under which a response holds its usage.
_INNER: Final = ("usage", "usageMetadata", "usage_metadata")
#: Levels of a usage at most; the deepest known has five.
_MAX_DEPTH: Final = 6
#: Valid names remembered at most; there are few, but a program may build names from ids.
_MAX_NAMES: Final = 4_096

_is_name: Final = re.compile(USAGE_NAME).fullmatch
_is_word: Final = re.compile(USAGE_WORD).fullmatch
is_number: Final = re.compile(r"\s*[+-]?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?\s*").fullmatch

#: Names that matched USAGE_NAME before; a look-up here costs a tenth of matching the pattern.
good_names: Final[set[str]] = set()


def name_is_good(name: object) -> bool:
    """Whether this is a valid name inside a usage."""
    if type(name) is not str or len(name) > 64 or _is_name(name) is None:
        return False
    if len(good_names) < _MAX_NAMES:
        good_names.add(name)
    return True


def usage_of(value: object, walk: Sanitizer) -> Any:
    """The usage as it may be sent, from an SDK's object, a mapping, or a response that holds one; NOTHING if none.

    Raises:
        Exception: Whatever the object's own code raises.
    """
    opened = value if type(value) is dict else walk.opened(value)
    if not isinstance(opened, Mapping):
        number = not isinstance(opened, str) or is_number(opened)
        return opened if number and isinstance(opened, str | int | float | None) else NOTHING  # a list is not a usage
    # The usage of a response, with the response's service tier if the usage has none.
    for name in _INNER:
        if opened.get(name) is not None and not _counts_tokens(opened):
            found = usage_of(opened[name], walk)
            if isinstance(found, dict):
                tier = opened.get("service_tier")
                if isinstance(tier, str) and _is_word(tier[:33]) and "service_tier" not in found:
                    found["service_tier"] = walk.text(tier)
                return found
    kept = _level(opened, walk, 0)
    return NOTHING if not kept and (opened or not isinstance(value, Mapping)) else kept


def _counts_tokens(mapping: Mapping[Any, Any]) -> bool:
    """Whether a mapping counts tokens itself: then it is a usage, not a response that holds one."""
    return any(mapping.get(name) is not None for name in ("prompt_tokens", "input_tokens", "completion_tokens"))


def _level(mapping: Mapping[Any, Any], walk: Sanitizer, depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    items = walk.items_of(mapping)
    walk.spend(len(items))
    for name, part in items:
        kind = type(name)
        if kind is not str or name not in good_names:
            plain = name if kind is str else walk.scalar(name)
            if not name_is_good(plain):
                walk.dropped += 1
                continue
            name = plain
        kind = type(part)
        # Most frequent first.
        if (kind is int and -1 < part < 2**63) or part is None or kind is float or kind is bool:
            kept[name] = part
            continue
        if kind is str:
            said = _word(name, part, walk)
        elif kind is dict and depth < _MAX_DEPTH:
            inner = _level(part, walk, depth + 1)
            said = inner if inner or not part else NOTHING
        else:
            plain = walk.scalar(part)
            # The value of an SDK's Enum, such as Gemini's modalities, is treated like any other word.
            said = _word(name, plain, walk) if isinstance(plain, str) else _inside(part, walk, depth + 1)
        if said is not NOTHING:
            kept[name] = said
    return kept


def _inside(part: object, walk: Sanitizer, depth: int) -> Any:
    plain = walk.scalar(part)
    if plain is not NOTHING:
        return _count(plain, walk)
    if depth > _MAX_DEPTH:
        walk.cut += 1
        return NOTHING
    try:
        opened = walk.opened(part)
        if isinstance(opened, Mapping):
            kept = _level(opened, walk, depth)
            return kept if kept or not opened else NOTHING
        if opened is NOTHING or isinstance(opened, str | int | float) or opened is None:
            return _count(opened, walk)
        parts = [_inside(one, walk, depth + 1) for one in walk.parts_of(opened) if walk.look()]  # type: ignore[arg-type]
        return [one for one in parts if one is not NOTHING]
    except Exception:  # raised by the object's own code
        walk.dropped += 1
        return NOTHING


def _count(plain: Any, walk: Sanitizer) -> Any:
    """A number, or text that holds one; other text is counted as dropped and gives NOTHING."""
    if isinstance(plain, str) and is_number(plain) is None:
        plain = NOTHING
    if plain is NOTHING:
        walk.dropped += 1
    return plain


def _word(name: str, text: str, walk: Sanitizer) -> Any:
    if len(text) <= 64:
        if is_number(text):
            return text
        if _is_word(text) and name.lower().replace("_", "").replace("-", "") in USAGE_ENUMERATIONS:
            return text
    walk.dropped += 1
    return TEXT_TAKEN_OUT if "token" in name.lower() else NOTHING


def moderation_of(value: object, walk: Sanitizer) -> Any:
    """A moderation result as it may be sent: known names, booleans, numbers, a few words; NOTHING for anything else.

    Raises:
        Exception: Whatever the object's own code raises.
    """
    opened = walk.opened(value)
    if opened is None:
        return None
    return _verdicts(opened, walk, 0) if isinstance(opened, Mapping) else NOTHING


def _verdicts(mapping: Mapping[Any, Any], walk: Sanitizer, depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, part in walk.items_of(mapping):
        if not walk.look():
            break
        name = walk.scalar(key)
        if not isinstance(name, str) or name.lower().replace("-", "_").replace("/", "_") not in MODERATION_NAMES:
            walk.dropped += 1
            continue
        said = _verdict(part, walk, depth)
        if said is NOTHING:
            walk.dropped += 1
        else:
            kept[name] = said
    return kept


def _verdict(part: object, walk: Sanitizer, depth: int) -> Any:
    plain = walk.scalar(part)
    if isinstance(plain, str):
        return plain if plain.lower() in MODERATION_WORDS else NOTHING
    if plain is not NOTHING:
        return plain
    if depth + 1 >= MAX_MODERATION_DEPTH:
        walk.cut += 1
        return NOTHING
    try:
        opened = walk.opened(part)
    except Exception:  # the object's own code; the caller counts it
        return NOTHING
    return _verdicts(opened, walk, depth + 1) if isinstance(opened, Mapping) else NOTHING
