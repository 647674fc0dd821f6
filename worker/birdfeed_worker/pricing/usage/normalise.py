"""From the usage an SDK reports to disjoint classes of tokens that sum to the totals.

    {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}
    → prompt_text 600, prompt_cached 400, completion_text 10; status "ok"

The shapes read: OpenAI (chat, responses, images, realtime), Azure, xAI, LiteLLM, Anthropic (also as Bedrock's Converse
spells it) and Gemini, each in snake_case or camelCase.
"""

from collections.abc import Mapping
from typing import Any, Final

from birdfeed_schemas.enrichment import Tokens, Usage, UsageStatus

from birdfeed_worker.pricing.usage.formats import (
    GEMINI_COUNTS,
    MAX_TOKENS,
    NotACountError,
    cache_written,
    count,
    details,
    first_count,
    from_gemini,
    snake_case,
)

MISSING: Final = Usage(status="missing")
INVALID: Final = Usage(status="invalid")

# Several names for one count: the first that is present counts.
_COMPLETION: Final = ("completion_tokens", "output_tokens")
_PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHE_WRITE: Final = ("cache_write_tokens", "cache_creation_tokens")
_REASONING: Final = ("reasoning_tokens", "thinking_tokens")
# Flat spellings count only where the detail is absent. Anthropic's own stand beside input_tokens.
_FLAT_CACHED: Final = ("cached_input_tokens", "cached_tokens")
_FLAT_CACHE_WRITE: Final = ("cache_creation_input_tokens", "cache_write_input_tokens")
_FLAT: Final = frozenset(
    (
        "cache_read_input_tokens",
        *_FLAT_CACHED,
        *_FLAT_CACHE_WRITE,
        "cache_creation",
        "audio_prompt_tokens",
        "audio_completion_tokens",
    )
)


def normalise_usage(raw: object) -> Usage:
    """The tokens of one event by class, from whatever its SDK reported.

    Args:
        raw: Any JSON value: a usage object of one of the shapes above, or None.

    Returns:
        Disjoint counts that sum to the totals. Status "missing" for None and {}; "invalid", with all counts 0, where a
        count is negative, fractional, beyond 2**63 - 1 or text other than digits, or where `raw` is no object;
        "inconsistent" where a part was larger than what was left of its total; else "ok". Never raises.
    """
    if raw is None:
        return MISSING
    if not (type(raw) is dict or isinstance(raw, Mapping)):
        return INVALID
    if not raw:
        return MISSING
    try:
        return _normalise(snake_case(raw))
    except NotACountError:
        return INVALID


def _normalise(raw: Mapping[str, Any]) -> Usage:
    prompt = count(raw, "prompt_tokens")
    anthropic = False
    if prompt is None:
        prompt = count(raw, "input_tokens")
        anthropic = prompt is not None
        if prompt is None and not GEMINI_COUNTS.isdisjoint(raw):
            return _normalise(from_gemini(raw))
    has_flat = not _FLAT.isdisjoint(raw)
    prompt, cached, cache_write, prompt_audio, prompt_image = _prompt_parts(raw, prompt or 0, anthropic, has_flat)
    completion = first_count(raw, _COMPLETION) or 0
    completion_audio, completion_image, reasoning = _completion_parts(raw, has_flat)
    total = count(raw, "total_tokens")
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning  # xAI counts reasoning beside the completion
    if prompt > MAX_TOKENS or completion > MAX_TOKENS:
        return INVALID

    # Each class takes at most what those before it left of the total; text is the rest.
    status: UsageStatus = "ok"
    prompt_text = prompt - cached - cache_write - prompt_audio - prompt_image
    if prompt_text < 0:
        status, prompt_text = "inconsistent", 0
        cached = min(cached, prompt)
        cache_write = min(cache_write, prompt - cached)
        prompt_audio = min(prompt_audio, prompt - cached - cache_write)
        prompt_image = min(prompt_image, prompt - cached - cache_write - prompt_audio)
    completion_text = completion - completion_audio - completion_image - reasoning
    if completion_text < 0:
        status, completion_text = "inconsistent", 0
        completion_audio = min(completion_audio, completion)
        completion_image = min(completion_image, completion - completion_audio)
        reasoning = min(reasoning, completion - completion_audio - completion_image)
    return Usage(
        status,
        Tokens(
            prompt_text,
            cached,
            cache_write,
            prompt_audio,
            prompt_image,
            completion_text,
            reasoning,
            completion_audio,
            completion_image,
        ),
    )


def _prompt_parts(
    raw: Mapping[str, Any], prompt: int, anthropic: bool, has_flat: bool
) -> tuple[int, int, int, int, int]:
    """The prompt's total, then what of it was cached, written to the cache, audio and images; not yet capped.

    In Anthropic's shape (input_tokens, no prompt_tokens) what its own flat names count is added to the total.
    """
    cached = cache_write = audio = image = None
    parts = details(raw, _PROMPT_DETAILS)
    if parts:
        cached, cache_write = count(parts, "cached_tokens"), first_count(parts, _CACHE_WRITE)
        audio, image = count(parts, "audio_tokens"), count(parts, "image_tokens")
        if cached and "cached_tokens_details" in parts:
            # Audio and images that were cached are in cached_tokens already: once is enough.
            of_cached = details(parts, ("cached_tokens_details",))
            audio = max(0, (audio or 0) - (count(of_cached, "audio_tokens") or 0))
            image = max(0, (image or 0) - (count(of_cached, "image_tokens") or 0))
    if has_flat:
        if cached is None:
            cached = count(raw, "cache_read_input_tokens")
            if cached is None:
                cached = first_count(raw, _FLAT_CACHED)
            elif anthropic:
                prompt += cached
        if cache_write is None:
            cache_write = first_count(raw, _FLAT_CACHE_WRITE)
            if cache_write is None:
                cache_write = cache_written(raw.get("cache_creation"))
            if anthropic:
                prompt += cache_write or 0
        if audio is None:
            audio = count(raw, "audio_prompt_tokens")
    return prompt, cached or 0, cache_write or 0, audio or 0, image or 0


def _completion_parts(raw: Mapping[str, Any], has_flat: bool) -> tuple[int, int, int]:
    """What of the completion was audio, images and reasoning; not yet capped."""
    audio = image = reasoning = None
    parts = details(raw, _COMPLETION_DETAILS)
    if parts:
        audio, image, reasoning = (
            count(parts, "audio_tokens"),
            count(parts, "image_tokens"),
            first_count(parts, _REASONING),
        )
    if audio is None and has_flat:
        audio = count(raw, "audio_completion_tokens")
    return audio or 0, image or 0, reasoning or 0
