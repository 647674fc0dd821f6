"""Reading counts out of the shapes SDKs report usage in: spellings, details, Gemini's own names.

What the counts mean together is decided in usage.py; here they are only found and read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

#: The largest count and the largest total: two of them still fit the UInt64 column that holds their sum.
MAX_TOKENS: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(MAX_TOKENS))

#: Totals as Gemini names them (generateContent and Live; then the Interactions API).
_GEMINI_PROMPT: Final = ("prompt_token_count", "total_input_tokens")
_GEMINI_TOOL_PROMPT: Final = ("tool_use_prompt_token_count", "total_tool_use_tokens")
_GEMINI_COMPLETION: Final = ("candidates_token_count", "response_token_count", "total_output_tokens")
_GEMINI_THOUGHTS: Final = ("thoughts_token_count", "total_thought_tokens")
_GEMINI_CACHED: Final = ("cached_content_token_count", "total_cached_tokens")
#: The same by modality.
_GEMINI_PROMPT_PARTS: Final = ("prompt_tokens_details", "input_tokens_by_modality")
_GEMINI_TOOL_PARTS: Final = ("tool_use_prompt_tokens_details", "tool_use_tokens_by_modality")
_GEMINI_CACHED_PARTS: Final = ("cache_tokens_details", "cached_tokens_by_modality")
_GEMINI_COMPLETION_PARTS: Final = (
    "candidates_tokens_details",
    "response_tokens_details",
    "output_tokens_by_modality",
)
#: Any of these makes a usage Gemini's.
GEMINI_COUNTS: Final = frozenset(
    (
        *_GEMINI_PROMPT,
        *_GEMINI_TOOL_PROMPT,
        *_GEMINI_COMPLETION,
        *_GEMINI_THOUGHTS,
        *_GEMINI_CACHED,
    )
)
_MODALITY_COUNT: Final = ("token_count", "tokens")

_NAMES: Final = (
    *("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens"),
    *("prompt_tokens_details", "input_tokens_details", "input_token_details"),
    *("completion_tokens_details", "output_tokens_details", "output_token_details"),
    *("cached_tokens", "cache_write_tokens", "cache_creation_tokens", "audio_tokens", "image_tokens"),
    *("reasoning_tokens", "thinking_tokens", "cached_tokens_details"),
    *("cache_read_input_tokens", "cached_input_tokens", "cache_creation_input_tokens", "cache_write_input_tokens"),
    *("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    *("audio_prompt_tokens", "audio_completion_tokens"),
    *sorted(GEMINI_COUNTS),
    *_GEMINI_TOOL_PARTS,
    *_GEMINI_CACHED_PARTS,
    *_GEMINI_COMPLETION_PARTS,
    *("input_tokens_by_modality", *_MODALITY_COUNT),
)


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


#: camelCase spelling → snake_case spelling of every name read here.
_SNAKE_CASE: Final[Mapping[str, str]] = {_camel_case(name): name for name in _NAMES if "_" in name}
_CAMEL_CASE: Final = frozenset(_SNAKE_CASE)
_NOTHING: Final[Mapping[str, Any]] = {}


class NotACountError(Exception):
    """What stands where a count or its details belong is neither: the whole usage is invalid."""


def snake_case(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with known camelCase names respelt; a name already there in snake_case, and not null, stays."""
    if _CAMEL_CASE.isdisjoint(source):
        return source
    renamed = {key: value for key, value in source.items() if key not in _CAMEL_CASE}
    for key, value in source.items():
        if key in _CAMEL_CASE and renamed.get(_SNAKE_CASE[key]) is None:
            renamed[_SNAKE_CASE[key]] = value
    return renamed


def read_count(value: object) -> int | None:
    """A count: a whole number, a float without a fraction, or digits as text. None where it is null or a boolean.

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
        # isascii, because int() reads the digits of every script; the length, because it would read a million of them.
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


def count(source: Mapping[str, Any], name: str) -> int | None:
    """The count of this name, None if it isn't there; raises NotACountError as read_count does."""
    value = source.get(name)
    if type(value) is int and 0 <= value <= MAX_TOKENS:
        return value  # read_count's first line here too: its call costs more than all it does
    return None if value is None else read_count(value)


def first_count(source: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of these counts that is there; None if none is.

    Raises:
        NotACountError: It is no count.
    """
    for name in names:
        number = count(source, name)
        if number is not None:
            return number
    return None


def details(source: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """The details under these names in one mapping, an earlier name's winning; empty where there are none.

    Details are an object, or Gemini's list of {modality, tokenCount}.

    Raises:
        NotACountError: They are something else.
    """
    merged = _NOTHING
    for name in names:
        value = source.get(name)
        if value is None or isinstance(value, bool):
            continue
        if type(value) is dict or isinstance(value, Mapping):
            found = snake_case(value)
        elif isinstance(value, list | tuple):
            found = _by_modality(value)
        else:
            raise NotACountError
        if not merged:
            merged = found
        elif found:
            merged = {**found, **{key: part for key, part in merged.items() if part is not None}}
    return merged


def cache_written(cache_creation: object) -> int | None:
    """Anthropic's cache writes where only their split by lifetime is given.

    Raises:
        NotACountError: It is no such split.
    """
    if cache_creation is None:
        return None
    split = details({"cache_creation": cache_creation}, ("cache_creation",))
    short = first_count(split, ("ephemeral_5m_input_tokens",))
    long = first_count(split, ("ephemeral_1h_input_tokens",))
    return None if short is None and long is None else (short or 0) + (long or 0)


def from_gemini(source: Mapping[str, Any]) -> dict[str, Any]:
    """Gemini's usageMetadata in OpenAI's words.

    Gemini counts tool results beside the prompt, and thoughts beside the candidates. Video and documents have no class
    of their own: they are part of the text, at whose rate Gemini bills them.

    Raises:
        NotACountError: A count in it is not a whole number from 0 on.
    """
    prompt_parts = details(source, _GEMINI_PROMPT_PARTS[:1]) or details(source, _GEMINI_PROMPT_PARTS[1:])
    tool_parts = details(source, _GEMINI_TOOL_PARTS)
    thoughts = first_count(source, _GEMINI_THOUGHTS)
    return {
        "prompt_tokens": (first_count(source, _GEMINI_PROMPT) or 0) + (first_count(source, _GEMINI_TOOL_PROMPT) or 0),
        "prompt_tokens_details": {
            "cached_tokens": first_count(source, _GEMINI_CACHED),
            "audio_tokens": (count(prompt_parts, "audio_tokens") or 0) + (count(tool_parts, "audio_tokens") or 0),
            "image_tokens": (count(prompt_parts, "image_tokens") or 0) + (count(tool_parts, "image_tokens") or 0),
            "cached_tokens_details": details(source, _GEMINI_CACHED_PARTS),
        },
        "completion_tokens": (first_count(source, _GEMINI_COMPLETION) or 0) + (thoughts or 0),
        "completion_tokens_details": {**details(source, _GEMINI_COMPLETION_PARTS), "reasoning_tokens": thoughts},
    }


def _by_modality(parts: Iterable[object]) -> dict[str, Any]:
    """Gemini's [{modality, tokenCount}] as {"audio_tokens": n, "image_tokens": n}, without what has no class."""
    counts = {"audio_tokens": 0, "image_tokens": 0}
    for part in parts:
        if not isinstance(part, Mapping):
            raise NotACountError
        modality = part.get("modality")
        number = first_count(snake_case(part), _MODALITY_COUNT)
        name = f"{modality.lower()}_tokens" if isinstance(modality, str) else ""
        if number is not None and name in counts:
            counts[name] += number
    return counts
