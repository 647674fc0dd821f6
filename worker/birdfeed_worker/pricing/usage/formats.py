"""Read the values in a usage: counts, amounts, spellings, and the lists that some providers report."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from birdfeed_schemas.tables.meters import WRAPPERS

#: The largest count and the largest total: two of them still fit the UInt64 column that holds their sum.
MAX_TOKENS: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(MAX_TOKENS))
#: Levels of nested objects that are read; the deepest usage has four.
MAX_DEPTH: Final = 8
#: Prefixes of OpenTelemetry's attributes (also used by frameworks that follow its conventions).
_ATTRIBUTES: Final = ("gen_ai.usage.", "llm.usage.", "ai.usage.")
#: Prefix of OpenInference's attributes → the meter table's words; longer prefixes first.
_OPEN_INFERENCE: Final = (
    ("llm.token_count.prompt_details.", "prompt."),
    ("llm.token_count.completion_details.", "completion."),
    ("llm.token_count.prompt", "prompt_tokens"),
    ("llm.token_count.completion", "completion_tokens"),
    ("llm.token_count.total", "total_tokens"),
)
#: The counts in each of Anthropic's iterations.
_ITERATION_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_LIFETIME: Final = re.compile(r"(?<=[a-z])(\d+[mh])(?=_|$)")
_MODALITY_COUNTS: Final = ("tokencount", "token_count", "tokens")


class NotACountError(Exception):
    """A value that should be a count or its details is neither: the whole usage is invalid."""


@lru_cache(4_096)
def snake_case(key: str) -> str:
    """A key as the meter table spells it: `promptTokenCount` → `prompt_token_count`, without OpenTelemetry's prefix."""
    for prefix in _ATTRIBUTES:
        if key.startswith(prefix):
            key = key[len(prefix) :]
            break
    for prefix, word in _OPEN_INFERENCE:
        if key.startswith(prefix):
            return word + key[len(prefix) :]
    text = _HUMP.sub(r"_\1", key).lower().replace("-", "_").replace(" ", "_")
    return _LIFETIME.sub(r"_\1", text).strip("_") if text[:1].isalpha() or text[:1] == "_" else text


def is_attribute(key: str) -> bool:
    """Whether a key is an OpenTelemetry attribute of usage; their counts are part of their totals."""
    return key.startswith((*_ATTRIBUTES, "llm.token_count."))


def read_count(value: object) -> int | None:
    """A count: an integer, a float without a fraction, or digits as text. None if it is null or a boolean.

    Raises:
        NotACountError: Anything else, a negative number, or one beyond MAX_TOKENS.
    """
    if type(value) is int:
        if 0 <= value <= MAX_TOKENS:
            return value
        raise NotACountError
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str):
        digits = value.strip()
        # isascii: int() accepts the digits of every script. The length: it would read a million digits.
        if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > _MAX_DIGITS:
            raise NotACountError
        number = int(digits.lstrip("0") or "0")
    elif isinstance(value, int):
        number = int(value)
    else:
        raise NotACountError
    if not 0 <= number <= MAX_TOKENS:
        raise NotACountError
    return number


def read_amount(value: object) -> Decimal | None:
    """A number of 0 or more that may have a fraction, such as seconds or USD; None if it is null or a boolean.

    Raises:
        NotACountError: It is text, negative or not finite.
    """
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, int | float | Decimal):
        raise NotACountError
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise NotACountError from None
    if not number.is_finite() or number < 0:
        raise NotACountError
    return number


def is_positive(value: object) -> bool:
    """Whether this is a number above 0; text and booleans are not numbers."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value > 0


def tidy(raw: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """The same as plain dicts, with lists by modality or lifetime as objects: [{"modality": "AUDIO", "tokenCount": 3}]
    becomes {"audio_tokens": 3}. Other lists become objects by position."""
    plain: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping):
            plain[str(key)] = tidy(value, depth + 1) if depth < MAX_DEPTH else {}
        elif isinstance(value, list | tuple):
            plain[str(key)] = _of_list(snake_case(str(key)), value, depth)
        else:
            plain[str(key)] = value
    if depth == 0 and isinstance(iterations := raw.get("iterations"), list | tuple):
        _add_iterations(plain, iterations)
    return plain


def _add_iterations(plain: dict[str, Any], iterations: Sequence[object]) -> None:
    """Add what Anthropic's totals leave out: tokens of compaction, which have the same model's rates. Those of other
    models within the request, such as an advisor, stay unread, because their rates differ
    (platform.claude.com/docs/en/build-with-claude/compaction, "Understanding usage")."""
    for part in iterations:
        if not isinstance(part, Mapping) or part.get("type") in (None, "message"):
            continue
        counts = {name: read_count(part.get(name)) or 0 for name in _ITERATION_COUNTS}
        if part["type"] != "compaction":
            plain["iterations_of_others"] = plain.get("iterations_of_others", 0) + sum(counts.values())
            continue
        for name, count in counts.items():
            if count:
                plain[name] = (read_count(plain.get(name)) or 0) + count
        own, theirs = part.get("cache_creation"), plain.get("cache_creation")
        if isinstance(own, Mapping) and isinstance(theirs, dict):
            for name, value in own.items():
                theirs[str(name)] = (read_count(theirs.get(str(name))) or 0) + (read_count(value) or 0)


def _of_list(key: str, parts: Sequence[object], depth: int) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for position, part in enumerate(parts):
        if not isinstance(part, Mapping):
            if key.endswith(("_details", "_by_modality")):
                raise NotACountError
            if not isinstance(part, list | tuple):
                counts[str(position)] = part
            continue
        lower = {str(name).lower(): value for name, value in part.items()}
        modality, lifetime = lower.get("modality"), lower.get("ttl")
        if isinstance(modality, str):
            number = next((read_count(lower[name]) for name in _MODALITY_COUNTS if name in lower), None)
            name = f"{modality.lower()}_tokens"
        elif isinstance(lifetime, str):
            number = read_count(lower.get("inputtokens", lower.get("input_tokens")))
            name = lifetime.lower()
        elif key == "results" and "tokencount" in lower:
            number, name = read_count(lower["tokencount"]), "token_count"
        elif key.endswith(("_details", "_by_modality")):
            continue  # it doesn't say which kind: it stays in the remainder
        else:
            counts[str(position)] = tidy(part, depth + 1) if depth < MAX_DEPTH else {}
            continue
        if number is not None:
            counts[name] = counts.get(name, 0) + number
    return counts


def inner_usage(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage inside a wrapper (a response, `x_groq`, an event of a stream); None if there is none."""
    by_name: dict[str, Mapping[str, Any]] = {}
    for key, value in raw.items():
        if isinstance(value, Mapping) and value:
            by_name.setdefault(snake_case(str(key)), value)
    return next((by_name[name] for name in WRAPPERS if name in by_name), None)
