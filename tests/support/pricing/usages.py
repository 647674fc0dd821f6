"""Usages and their expected results: description → (usage, status, the classes that are not 0)."""

from collections.abc import Mapping
from typing import Any

MAX = 2**63 - 1

TABLE: Mapping[str, tuple[dict[str, Any], str, dict[str, int]]] = {
    "unknown keys only": ({"foo": 1}, "invalid", {}),
    "all null": ({"prompt_tokens": None, "completion_tokens": None}, "ok", {}),
    "a total alone says nothing of its parts": ({"total_tokens": 150}, "invalid", {}),
    "a total larger than its parts: something is missing": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99},
        "incomplete",
        {"prompt_text": 10, "completion_text": 5},
    ),
    "prompt_tokens before input_tokens": ({"prompt_tokens": 10, "input_tokens": 7}, "ok", {"prompt_text": 10}),
    "prompt_tokens of 0 before input_tokens": ({"prompt_tokens": 0, "input_tokens": 7}, "ok", {}),
    "null prompt_tokens, then input_tokens": ({"prompt_tokens": None, "input_tokens": 7}, "ok", {"prompt_text": 7}),
    "boolean completion_tokens, then output_tokens": (
        {"completion_tokens": False, "output_tokens": 7},
        "ok",
        {"completion_text": 7},
    ),
    "text_tokens is ignored, even when absurd": (
        {"prompt_tokens": 10, "prompt_tokens_details": {"text_tokens": -4, "cached_tokens": 3}},
        "ok",
        {"prompt_text": 7, "prompt_cached": 3},
    ),
    "a detail of 0 wins over a flat spelling": (
        {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 4},
        "ok",
        {"prompt_text": 10},
    ),
    "a null detail leaves the flat spelling": (
        {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": None}, "cached_tokens": 4},
        "ok",
        {"prompt_text": 6, "prompt_cached": 4},
    ),
    "a boolean detail leaves the flat spelling": (
        {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": True}, "cached_tokens": 4},
        "ok",
        {"prompt_text": 6, "prompt_cached": 4},
    ),
    "null details leave the flat spelling": (
        {"prompt_tokens": 10, "prompt_tokens_details": None, "cached_input_tokens": 4},
        "ok",
        {"prompt_text": 6, "prompt_cached": 4},
    ),
    "details of both spellings complete each other": (
        {
            "prompt_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": None},
            "input_tokens_details": {"cached_tokens": 4},
        },
        "ok",
        {"prompt_text": 6, "prompt_cached": 4},
    ),
    "the first flat spelling that is there counts": (
        {"prompt_tokens": 10, "cache_read_input_tokens": 2, "cached_input_tokens": 3, "cached_tokens": 4},
        "ok",
        {"prompt_text": 8, "prompt_cached": 2},
    ),
    "cache_read_input_tokens beside prompt_tokens is part of it": (
        {"prompt_tokens": 1000, "completion_tokens": 1, "cache_read_input_tokens": 400},
        "ok",
        {"prompt_text": 600, "prompt_cached": 400, "completion_text": 1},
    ),
    "cached_input_tokens is part of input_tokens": (
        {"input_tokens": 1000, "cached_input_tokens": 400},
        "ok",
        {"prompt_text": 600, "prompt_cached": 400},
    ),
    "anthropic: both caches beside the input": (
        {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50},
        "ok",
        {"prompt_text": 10, "prompt_cached": 100, "prompt_cache_write": 50, "completion_text": 5},
    ),
    "anthropic: input of 0": (
        {"input_tokens": 0, "output_tokens": 5, "cache_read_input_tokens": 100},
        "ok",
        {"prompt_cached": 100, "completion_text": 5},
    ),
    "anthropic: null caches": (
        {"input_tokens": 10, "cache_read_input_tokens": None, "cache_creation_input_tokens": None},
        "ok",
        {"prompt_text": 10},
    ),
    "anthropic: null prompt_tokens don't change the shape": (
        {"prompt_tokens": None, "input_tokens": 10, "cache_read_input_tokens": 100},
        "ok",
        {"prompt_text": 10, "prompt_cached": 100},
    ),
    "anthropic: writes split by lifetime only": (
        {"input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7}},
        "ok",
        {"prompt_text": 10, "prompt_cache_write": 5, "prompt_cache_write_1h": 7},
    ),
    "anthropic: the flat count of writes, not its split again": (
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 12,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7},
        },
        "ok",
        {"prompt_text": 10, "prompt_cache_write": 5, "prompt_cache_write_1h": 7},
    ),
    "anthropic: thinking is part of the output": (
        {"input_tokens": 10, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
        "ok",
        {"prompt_text": 10, "completion_text": 5, "completion_reasoning": 4},
    ),
    "bedrock converse": (
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 165,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 50,
        },
        "ok",
        {"prompt_text": 10, "prompt_cached": 100, "prompt_cache_write": 50, "completion_text": 5},
    ),
    "responses details are part of input_tokens": (
        {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "cache_read_input_tokens": 60},
        "ok",
        {"prompt_text": 40, "prompt_cached": 60},
    ),
    "cache_write_tokens in the details": (
        {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30}},
        "ok",
        {"prompt_text": 50, "prompt_cached": 20, "prompt_cache_write": 30},
    ),
    "every class at once": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 100,
            "prompt_tokens_details": {
                "cached_tokens": 10,
                "cache_write_tokens": 20,
                "audio_tokens": 30,
                "image_tokens": 5,
            },
            "completion_tokens_details": {"audio_tokens": 10, "image_tokens": 20, "reasoning_tokens": 30},
        },
        "ok",
        {
            "prompt_text": 35,
            "prompt_cached": 10,
            "prompt_cache_write": 20,
            "prompt_audio": 30,
            "prompt_image": 5,
            "completion_text": 40,
            "completion_reasoning": 30,
            "completion_audio": 10,
            "completion_image": 20,
        },
    ),
    "exactly all of it is not too much": (
        {"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 20}},
        "ok",
        {"prompt_cached": 10, "prompt_audio": 20},
    ),
    "capped in the order cached, cache write, audio, image": (
        {
            "prompt_tokens": 25,
            "prompt_tokens_details": {
                "cached_tokens": 10,
                "cache_write_tokens": 10,
                "audio_tokens": 10,
                "image_tokens": 10,
            },
        },
        "inconsistent",
        {"prompt_cached": 10, "prompt_cache_write": 10, "prompt_audio": 5},
    ),
    "capped in the order audio, image, reasoning": (
        {
            "completion_tokens": 25,
            "completion_tokens_details": {"audio_tokens": 10, "image_tokens": 10, "reasoning_tokens": 10},
        },
        "inconsistent",
        {"completion_audio": 10, "completion_image": 10, "completion_reasoning": 5},
    ),
    "reasoning beyond the completion": (
        {"completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 80}},
        "inconsistent",
        {"completion_reasoning": 50},
    ),
    "parts of nothing": ({"prompt_tokens_details": {"cached_tokens": 5}}, "inconsistent", {}),
    "reasoning beside the completion, by the total": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 450,
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        "ok",
        {"prompt_text": 100, "completion_text": 50, "completion_reasoning": 300},
    ),
    "reasoning within the completion, by the total": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 350,
            "total_tokens": 450,
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        "ok",
        {"prompt_text": 100, "completion_text": 50, "completion_reasoning": 300},
    ),
    "reasoning beside it, the total as text": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": "450",
            "completion_tokens_details": {"reasoning_tokens": 300},
        },
        "ok",
        {"prompt_text": 100, "completion_text": 50, "completion_reasoning": 300},
    ),
    "reasoning without a total is part of the completion": (
        {"prompt_tokens": 100, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 30}},
        "ok",
        {"prompt_text": 100, "completion_text": 20, "completion_reasoning": 30},
    ),
    "camelCase": (
        {
            "promptTokens": 100,
            "completionTokens": 50,
            "totalTokens": 450,
            "promptTokensDetails": {"cachedTokens": 40},
            "completionTokensDetails": {"reasoningTokens": 300},
        },
        "ok",
        {"prompt_text": 60, "prompt_cached": 40, "completion_text": 50, "completion_reasoning": 300},
    ),
    "camelCase, flat": (
        {"inputTokens": 100, "outputTokens": 50, "cachedInputTokens": 40},
        "ok",
        {"prompt_text": 60, "prompt_cached": 40, "completion_text": 50},
    ),
    "snake_case before camelCase": ({"prompt_tokens": 3, "promptTokens": 4}, "ok", {"prompt_text": 3}),
    "camelCase where snake_case is null": ({"prompt_tokens": None, "promptTokens": 4}, "ok", {"prompt_text": 4}),
    "gemini: thoughts beside the candidates": (
        {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 22},
        "ok",
        {"prompt_text": 10, "completion_text": 5, "completion_reasoning": 7},
    ),
    "gemini: nothing came back": ({"promptTokenCount": 10, "totalTokenCount": 10}, "ok", {"prompt_text": 10}),
    "gemini: tool results beside the prompt": (
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 6,
            "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 4}],
        },
        "ok",
        {"prompt_text": 12, "prompt_image": 4},
    ),
    "gemini: details that are an object, of digits and nothing": (
        {
            "promptTokenCount": "10",
            "promptTokensDetails": {"audio_tokens": "4", "image_tokens": None},
            "toolUsePromptTokenCount": 2,
            "toolUsePromptTokensDetails": {"audio_tokens": "1"},
        },
        "ok",
        {"prompt_text": 7, "prompt_audio": 5},
    ),
    "gemini: details that are an object, of no counts": (
        {"promptTokenCount": 10, "promptTokensDetails": {"audio_tokens": "four"}},
        "invalid",
        {},
    ),
    "gemini: all of the prompt cached, its audio too": (
        {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 1000,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 400}, {"modality": "TEXT", "tokenCount": 600}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 400}, {"modality": "TEXT", "tokenCount": 600}],
        },
        "ok",
        {"prompt_cached": 600, "prompt_cached_audio": 400},
    ),
    "gemini: video and documents are text": (
        {
            "promptTokenCount": 30,
            "promptTokensDetails": [
                {"modality": "VIDEO", "tokenCount": 10},
                {"modality": "DOCUMENT", "tokenCount": 10},
            ],
        },
        "ok",
        {"prompt_text": 30},
    ),
    "gemini: modality without a count": (
        {"promptTokenCount": 30, "promptTokensDetails": [{"modality": "AUDIO"}, {"tokenCount": 4}, {}]},
        "ok",
        {"prompt_text": 30},
    ),
    "gemini, interactions": (
        {
            "total_input_tokens": 30,
            "input_tokens_by_modality": [{"modality": "audio", "tokens": 12}],
            "total_output_tokens": 8,
            "total_thought_tokens": 2,
            "total_tokens": 40,
        },
        "ok",
        {"prompt_text": 18, "prompt_audio": 12, "completion_text": 8, "completion_reasoning": 2},
    ),
    "two halves of the widest column": (
        {"input_tokens": MAX - 1, "cache_read_input_tokens": 1},
        "ok",
        {"prompt_text": MAX - 1, "prompt_cached": 1},
    ),
    "a sum beyond the widest column": ({"input_tokens": MAX, "cache_read_input_tokens": 1}, "invalid", {}),
    "reasoning beyond the widest column": (
        {"completion_tokens": MAX, "total_tokens": MAX, "completion_tokens_details": {"reasoning_tokens": MAX}},
        "ok",
        {"completion_reasoning": MAX},
    ),
}
