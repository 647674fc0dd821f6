"""Properties of any usage, tested with Hypothesis."""

from typing import Any

from birdfeed_worker.pricing.usage.formats import MAX_TOKENS
from birdfeed_worker.pricing.usage.normalise import normalise_usage
from hypothesis import given, settings
from hypothesis import strategies as st

COUNTS = st.integers(0, MAX_TOKENS)
ANY_COUNT = st.one_of(
    COUNTS,
    COUNTS.map(str),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=4),
)
NAMES = [
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cached_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens", "cached_input_tokens", "audio_prompt_tokens"),
    *("audio_completion_tokens", "promptTokens", "promptTokenCount", "thoughtsTokenCount", "total_input_tokens"),
]
DETAILS = [
    *("prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details"),
    *("promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails", "cache_creation"),
]
PARTS = [
    *("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "text_tokens"),
    *("cachedTokens", "ephemeral_5m_input_tokens", "cached_tokens_details"),
]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(NAMES + DETAILS + PARTS), inner),
    max_leaves=12,
)
MODALITIES = st.lists(
    st.fixed_dictionaries(
        {}, optional={"modality": st.sampled_from(["AUDIO", "IMAGE", "TEXT"]) | JSON, "tokenCount": ANY_COUNT}
    ),
    max_size=3,
)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """Objects with the names that SDKs use, and valid and invalid values."""
    counts = draw(st.dictionaries(st.sampled_from(NAMES), ANY_COUNT, max_size=6))
    parts = st.dictionaries(st.sampled_from(PARTS), ANY_COUNT, max_size=4) | MODALITIES | JSON
    return {**counts, **draw(st.dictionaries(st.sampled_from(DETAILS), parts, max_size=3))}


@given(JSON | usages())
@settings(deadline=None)
def test_any_json_is_read_without_an_exception(raw: Any) -> None:
    """Any value in place of a usage gives a status, and whole counts from 0 that fit their columns."""
    usage = normalise_usage(raw)

    assert usage.status in ("ok", "inconsistent", "incomplete", "invalid", "missing")
    assert all(type(count) is int and 0 <= count <= MAX_TOKENS for count in usage.tokens)
    assert usage.tokens.prompt + usage.tokens.completion < 2**64
    if usage.status in ("invalid", "missing"):
        assert not any(usage.tokens)


@st.composite
def chats(draw: st.DrawFn) -> tuple[dict[str, Any], int, int]:
    """A usage in OpenAI's format, with parts that may be too large; and its totals."""
    prompt, completion = draw(COUNTS), draw(COUNTS)
    part = st.none() | COUNTS | st.integers(0, 1000)
    raw: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {name: draw(part) for name in ("cached_tokens", "cache_write_tokens", "audio_tokens")},
        "completion_tokens_details": {
            name: draw(part) for name in ("audio_tokens", "image_tokens", "reasoning_tokens")
        },
    }
    return raw, prompt, completion


@given(chats())
@settings(deadline=None)
def test_classes_sum_to_the_totals(case: tuple[dict[str, Any], int, int]) -> None:
    """With any parts the classes sum to the totals; "ok" only if no part was capped."""
    raw, prompt, completion = case
    usage = normalise_usage(raw)
    parts = [
        sum(part or 0 for part in raw[name].values()) for name in ("prompt_tokens_details", "completion_tokens_details")
    ]

    assert (prompt, completion) == (usage.tokens.prompt, usage.tokens.completion)
    assert (usage.status == "ok") == (parts[0] <= prompt and parts[1] <= completion)


@given(COUNTS, COUNTS, st.integers(0, 2**62), st.integers(0, 2**62))
@settings(deadline=None)
def test_anthropics_classes_sum_to_what_it_reports(input_tokens: int, output: int, read: int, written: int) -> None:
    """Anthropic's input doesn't include caches: they sum, or are too many."""
    usage = normalise_usage(
        {
            "input_tokens": input_tokens,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }
    )

    if input_tokens + read + written > MAX_TOKENS:
        assert usage.status == "invalid"
    else:
        assert (input_tokens, read, written, output) == (
            usage.tokens.prompt_text,
            usage.tokens.prompt_cached,
            usage.tokens.prompt_cache_write,
            usage.tokens.completion_text,
        )
