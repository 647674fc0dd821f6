"""Usage as SDKs, gateways and frameworks report it: one of each kind, with its expected result."""

from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.pricing.usage.normalise import normalise_usage

from tests.support.pricing.cases import nonzero

#: Name: provider, usage, classes, counters.
SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, int], dict[str, Any]]] = {
    "langchain anthropic, writes by lifetime": (
        "anthropic",
        {
            "input_tokens": 30_010,
            "output_tokens": 5,
            "total_tokens": 30_015,
            "input_token_details": {
                "cache_read": 20_000,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 4_000,
                "ephemeral_1h_input_tokens": 6_000,
            },
        },
        {
            "prompt_text": 10,
            "prompt_cached": 20_000,
            "prompt_cache_write": 4_000,
            "prompt_cache_write_1h": 6_000,
            "completion_text": 5,
        },
        {},
    ),
    "langchain google, reasoning": (
        "google",
        {
            "input_tokens": 100,
            "output_tokens": 80,
            "total_tokens": 180,
            "input_token_details": {"cache_read": 40},
            "output_token_details": {"reasoning": 50},
        },
        {"prompt_text": 60, "prompt_cached": 40, "completion_text": 30, "completion_reasoning": 50},
        {},
    ),
    "pydantic-ai with cached audio": (
        "openai",
        {
            "input_tokens": 1_000,
            "cache_read_tokens": 500,
            "cache_audio_read_tokens": 200,
            "input_audio_tokens": 300,
            "output_tokens": 50,
            "requests": 3,
            "tool_calls": 2,
            "details": {"reasoning_tokens": 20},
        },
        {
            "prompt_text": 400,
            "prompt_cached": 300,
            "prompt_cached_audio": 200,
            "prompt_audio": 100,
            "completion_text": 50,
        },
        {"requests": 3},
    ),
    "vercel 5, anthropic: cache beside": (
        "anthropic.messages",
        {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "cachedInputTokens": 8_000},
        {"prompt_text": 10, "prompt_cached": 8_000, "completion_text": 5},
        {},
    ),
    "vercel 5, openai: cache inside": (
        "openai.chat",
        {"inputTokens": 10_000, "outputTokens": 5, "totalTokens": 10_005, "cachedInputTokens": 8_000},
        {"prompt_text": 2_000, "prompt_cached": 8_000, "completion_text": 5},
        {},
    ),
    "vercel 5, google: total says reasoning is beside": (
        "google",
        {"inputTokens": 10, "outputTokens": 5, "totalTokens": 45, "reasoningTokens": 30},
        {"prompt_text": 10, "completion_text": 5, "completion_reasoning": 30},
        {},
    ),
    "vercel 6, anthropic: cache inside": (
        "anthropic",
        {
            "inputTokens": 10_000,
            "inputTokenDetails": {"noCacheTokens": 1_000, "cacheReadTokens": 8_000, "cacheWriteTokens": 1_000},
            "outputTokens": 5,
            "outputTokenDetails": {},
            "totalTokens": 10_005,
            "cachedInputTokens": 8_000,
            "raw": {"input_tokens": 1_000},
        },
        {"prompt_text": 1_000, "prompt_cached": 8_000, "prompt_cache_write": 1_000, "completion_text": 5},
        {},
    ),
    "vercel's provider level": (
        "openai",
        {
            "inputTokens": {"total": 100, "noCache": 40, "cacheRead": 60},
            "outputTokens": {"total": 30, "text": 10, "reasoning": 20},
        },
        {"prompt_text": 40, "prompt_cached": 60, "completion_text": 10, "completion_reasoning": 20},
        {},
    ),
    "opentelemetry, cache inside": (
        "anthropic",
        {
            "gen_ai.usage.input_tokens": 1_000,
            "gen_ai.usage.output_tokens": 10,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_creation.input_tokens": 100,
        },
        {"prompt_text": 300, "prompt_cached": 600, "prompt_cache_write": 100, "completion_text": 10},
        {},
    ),
    "opentelemetry, nested": (
        "openai",
        {"gen_ai": {"usage": {"input_tokens": 7, "output_tokens": 3}}},
        {"prompt_text": 7, "completion_text": 3},
        {},
    ),
    "langfuse": ("openai", {"input": 7, "output": 3, "total": 10}, {"prompt_text": 7, "completion_text": 3}, {}),
    "langfuse, cached beside": (
        "openai",
        {"input": 7, "output": 3, "input_cached_tokens": 90, "output_reasoning_tokens": 20, "total": 120},
        {"prompt_text": 7, "prompt_cached": 90, "completion_text": 3, "completion_reasoning": 20},
        {},
    ),
    "bedrock converse with lifetimes": (
        "bedrock",
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 165,
            "cacheReadInputTokens": 50,
            "cacheWriteInputTokens": 100,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 40}],
        },
        {
            "prompt_text": 10,
            "prompt_cached": 50,
            "prompt_cache_write": 40,
            "prompt_cache_write_1h": 60,
            "completion_text": 5,
        },
        {},
    ),
    "bedrock llama": (
        "aws",
        {"generation": "x", "prompt_token_count": 7, "generation_token_count": 3, "stop_reason": "stop"},
        {"prompt_text": 7, "completion_text": 3},
        {},
    ),
    "bedrock titan": (
        "aws",
        {"inputTextTokenCount": 7, "results": [{"tokenCount": 3, "outputText": "x"}]},
        {"prompt_text": 7, "completion_text": 3},
        {},
    ),
    "deepseek": (
        "deepseek",
        {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "total_tokens": 105,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        {"prompt_text": 36, "prompt_cached": 64, "completion_text": 5},
        {},
    ),
    "groq, streamed": (
        "groq",
        {
            "id": "c",
            "choices": [],
            "x_groq": {
                "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "total_time": 0.3},
            },
        },
        {"prompt_text": 9, "completion_text": 1},
        {},
    ),
    "cohere, a whole answer": (
        "cohere",
        {"id": "c", "meta": {"billed_units": {"input_tokens": 7, "output_tokens": 3, "search_units": 2}}},
        {"prompt_text": 7, "completion_text": 3},
        {"search_units": 2},
    ),
    "openai's transcription by time": ("openai", {"type": "duration", "seconds": 9.5}, {}, {"seconds": Decimal("9.5")}),
    "mistral's pages": ("mistral", {"pages_processed": 4, "doc_size_bytes": None}, {}, {"pages": 4}),
    "xai rest: reasoning beside": (
        "xai",
        {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 30}},
        {"prompt_text": 10, "completion_text": 5, "completion_reasoning": 30},
        {},
    ),
    "xai responses: reasoning inside": (
        "xai",
        {"input_tokens": 10, "output_tokens": 35, "output_tokens_details": {"reasoning_tokens": 30}},
        {"prompt_text": 10, "completion_text": 5, "completion_reasoning": 30},
        {},
    ),
    "total says that flat cache is inside": (
        "",
        {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 60},
        {"prompt_text": 40, "prompt_cached": 60, "completion_text": 10},
        {},
    ),
    "litellm's searches": (
        "",
        {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"web_search_requests": 2}},
        {"prompt_text": 9, "completion_text": 1},
        {"web_searches": 2},
    ),
    "a realtime event": (
        "openai",
        {"type": "response.done", "response": {"usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}}},
        {"prompt_text": 5, "completion_text": 2},
        {},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    """Read completely: status ok, the classes, and other billed counts."""
    provider, raw, classes, counters = SHAPES[name]
    usage = normalise_usage(raw, provider)

    assert ("ok", classes, counters) == (usage.status, nonzero(usage), dict(usage.counters))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ({"total_tokens": 5}, "invalid"),
        ({"tokens_used": 5}, "invalid"),
        ({"tokens": {"input_tokens": 5}}, "invalid"),
        ({"prompt_tokens": 5, "video_frames": 3}, "incomplete"),
        ({"prompt_tokens": 5, "video_frames": 0}, "ok"),
        ({"prompt_tokens": 5, "total_tokens": 9}, "incomplete"),
        ({"prompt_tokens": 5, "server_tool_use": {"code_execution_requests": 1}}, "incomplete"),
        ({"prompt_tokens": 5, "completion_time": 0.5, "first_token_latency": 3}, "ok"),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"text_tokens": 5}}, "ok"),
        ({"prompt_tokens": 5, "surcharges": [{"units": 4}]}, "incomplete"),
    ],
    ids=repr,
)
def test_every_positive_number_matters(raw: dict[str, Any], status: str) -> None:
    """A number that isn't read makes a usage incomplete; a usage in which none is read is invalid."""
    assert status == normalise_usage(raw).status


@pytest.mark.parametrize(
    ("raw", "modifiers"),
    [
        ({"input_tokens": 1, "service_tier": "batch"}, {"service_tier": "batch"}),
        ({"input_tokens": 1, "service_tier": "standard", "speed": "fast"}, {"speed": "fast"}),
        ({"input_tokens": 1, "inference_geo": "us"}, {"inference_geo": "us"}),
        ({"input_tokens": 1, "inference_geo": "global"}, {}),
        ({"promptTokenCount": 1, "trafficType": "ON_DEMAND"}, {}),
        ({"promptTokenCount": 1, "trafficType": "PROVISIONED_THROUGHPUT"}, {"service_tier": "provisioned_throughput"}),
        ({"inputTokens": 1, "serviceTier": {"type": "flex"}}, {"service_tier": "flex"}),
        ({"service_tier": "priority", "usage": {"prompt_tokens": 1}}, {"service_tier": "priority"}),
    ],
    ids=repr,
)
def test_words_that_change_the_price(raw: dict[str, Any], modifiers: dict[str, str]) -> None:
    """Inside usage, and in the response around it; those without a meaning are left out."""
    assert modifiers == dict(normalise_usage(raw).modifiers)


@pytest.mark.parametrize(
    ("provider", "raw", "reported", "status"),
    [
        ("openrouter", {"prompt_tokens": 1, "cost": 0.25}, "0.25", "ok"),
        (
            "openrouter",
            {"prompt_tokens": 1, "cost": 0.25, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}},
            "1.25",
            "ok",
        ),
        (
            "openrouter",
            {"prompt_tokens": 1, "cost": 0.25, "is_byok": False, "cost_details": {"upstream_inference_cost": 1}},
            "0.25",
            "ok",
        ),
        ("perplexity", {"prompt_tokens": 1, "cost": {"total_cost": 0.5}}, "0.5", "ok"),
        ("x-ai", {"prompt_tokens": 1, "cost_in_usd_ticks": 12_345}, "0.0000012345", "ok"),
        ("openai", {"prompt_tokens": 1, "cost": 0.25}, None, "ok"),
        ("openrouter", {"prompt_tokens": 1, "cost": -1}, None, "incomplete"),
        ("openrouter", {"prompt_tokens": 1, "cost": "free"}, None, "incomplete"),
        ("openrouter", {"prompt_tokens": 1, "cost": float("nan")}, None, "incomplete"),
        ("openrouter", {"prompt_tokens": 1, "cost": None}, None, "ok"),
    ],
    ids=repr,
)
def test_costs_reported_by_the_provider(provider: str, raw: dict[str, Any], reported: str | None, status: str) -> None:
    """Used only for providers that are known to report them."""
    usage = normalise_usage(raw, provider)

    assert (None if reported is None else Decimal(reported), status) == (usage.reported, usage.status)
