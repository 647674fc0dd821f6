"""Usage objects built with the SDKs' own models, without network; their dumps are in tests/data/sdk_usage.json."""

import os
import warnings
from collections.abc import Callable
from typing import Any

#: LiteLLM fetches a price map when it is imported, unless told not to.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def openai_chat() -> Any:
    from openai.types import CompletionUsage
    from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

    return CompletionUsage(
        prompt_tokens=1200,
        completion_tokens=300,
        total_tokens=1500,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=1024, audio_tokens=0),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=128, audio_tokens=0),
    )


def openai_chat_plain() -> Any:
    from openai.types import CompletionUsage

    return CompletionUsage(prompt_tokens=50, completion_tokens=100, total_tokens=150)


def openai_responses() -> Any:
    from openai.types.responses import ResponseUsage

    return ResponseUsage.model_validate(
        {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 100},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 120},
            "total_tokens": 1300,
        }
    )


def openai_images() -> Any:
    from openai.types.images_response import Usage, UsageInputTokensDetails, UsageOutputTokensDetails

    return Usage(
        input_tokens=350,
        input_tokens_details=UsageInputTokensDetails(image_tokens=323, text_tokens=27),
        output_tokens=4160,
        output_tokens_details=UsageOutputTokensDetails(image_tokens=4160, text_tokens=0),
        total_tokens=4510,
    )


def openai_realtime() -> Any:
    from openai.types.realtime.realtime_response_usage import RealtimeResponseUsage

    return RealtimeResponseUsage.model_validate(
        {
            "input_tokens": 500,
            "output_tokens": 200,
            "total_tokens": 700,
            "input_token_details": {
                "text_tokens": 200,
                "audio_tokens": 300,
                "cached_tokens": 192,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 128},
            },
            "output_token_details": {"text_tokens": 50, "audio_tokens": 150},
        }
    )


def anthropic_message() -> Any:
    from anthropic.types import Usage

    return Usage(input_tokens=600, output_tokens=100, cache_read_input_tokens=400, cache_creation_input_tokens=0)


def anthropic_cache_write() -> Any:
    from anthropic.types import Usage

    return Usage.model_validate(
        {
            "input_tokens": 21,
            "output_tokens": 393,
            "cache_creation_input_tokens": 1888,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 888},
            "service_tier": "standard",
        }
    )


def anthropic_no_cache() -> Any:
    from anthropic.types import Usage

    return Usage(input_tokens=12, output_tokens=7)


def gemini() -> Any:
    from google.genai.types import GenerateContentResponseUsageMetadata

    return GenerateContentResponseUsageMetadata.model_validate(
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 200,
            "thoughtsTokenCount": 300,
            "toolUsePromptTokenCount": 40,
            "cachedContentTokenCount": 500,
            "totalTokenCount": 1540,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 700},
                {"modality": "AUDIO", "tokenCount": 200},
                {"modality": "IMAGE", "tokenCount": 100},
            ],
            "cacheTokensDetails": [
                {"modality": "TEXT", "tokenCount": 400},
                {"modality": "AUDIO", "tokenCount": 100},
            ],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 200}],
        }
    )


def gemini_image() -> Any:
    from google.genai.types import GenerateContentResponseUsageMetadata

    return GenerateContentResponseUsageMetadata.model_validate(
        {
            "promptTokenCount": 20,
            "candidatesTokenCount": 1290,
            "totalTokenCount": 1310,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        }
    )


def gemini_live() -> Any:
    from google.genai.types import UsageMetadata

    return UsageMetadata.model_validate(
        {
            "promptTokenCount": 90,
            "responseTokenCount": 60,
            "totalTokenCount": 150,
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}],
        }
    )


def _litellm(**counts: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from litellm.types.utils import Usage

        return Usage(**counts)


def litellm_openai() -> Any:
    return _litellm(
        prompt_tokens=1200,
        completion_tokens=300,
        total_tokens=1500,
        prompt_tokens_details={"cached_tokens": 1024},
        completion_tokens_details={"reasoning_tokens": 128},
    )


def litellm_anthropic() -> Any:
    # LiteLLM's prompt_tokens include the cache already.
    return _litellm(
        prompt_tokens=2309,
        completion_tokens=393,
        total_tokens=2702,
        cache_read_input_tokens=400,
        cache_creation_input_tokens=1888,
    )


#: Name → (the distribution it needs, its provider, the expected result).
OBJECTS: dict[str, tuple[str, Callable[[], Any], dict[str, int]]] = {
    "openai chat": (
        "openai",
        openai_chat,
        {"prompt_text": 176, "prompt_cached": 1024, "completion_text": 172, "completion_reasoning": 128},
    ),
    "openai chat, plain": ("openai", openai_chat_plain, {"prompt_text": 50, "completion_text": 100}),
    "openai responses": (
        "openai",
        openai_responses,
        {
            "prompt_text": 644,
            "prompt_cached": 256,
            "prompt_cache_write": 100,
            "completion_text": 180,
            "completion_reasoning": 120,
        },
    ),
    "openai images": ("openai", openai_images, {"prompt_text": 27, "prompt_image": 323, "completion_image": 4160}),
    "openai realtime": (
        "openai",
        openai_realtime,
        {
            "prompt_text": 136,
            "prompt_cached": 64,
            "prompt_cached_audio": 128,
            "prompt_audio": 172,
            "completion_text": 50,
            "completion_audio": 150,
        },
    ),
    "anthropic": ("anthropic", anthropic_message, {"prompt_text": 600, "prompt_cached": 400, "completion_text": 100}),
    "anthropic, cache write": (
        "anthropic",
        anthropic_cache_write,
        {"prompt_text": 21, "prompt_cache_write": 1000, "prompt_cache_write_1h": 888, "completion_text": 393},
    ),
    "anthropic, no cache": ("anthropic", anthropic_no_cache, {"prompt_text": 12, "completion_text": 7}),
    "gemini": (
        "google-genai",
        gemini,
        {
            "prompt_text": 340,
            "prompt_cached": 400,
            "prompt_cached_audio": 100,
            "prompt_audio": 100,
            "prompt_image": 100,
            "completion_text": 200,
            "completion_reasoning": 300,
        },
    ),
    "gemini image": ("google-genai", gemini_image, {"prompt_text": 20, "completion_image": 1290}),
    "gemini live": ("google-genai", gemini_live, {"prompt_text": 90, "completion_audio": 60}),
    "litellm, openai": (
        "litellm",
        litellm_openai,
        {"prompt_text": 176, "prompt_cached": 1024, "completion_text": 172, "completion_reasoning": 128},
    ),
    "litellm, anthropic": (
        "litellm",
        litellm_anthropic,
        {"prompt_text": 21, "prompt_cached": 400, "prompt_cache_write": 1888, "completion_text": 393},
    ),
}


def dumps(usage: Any) -> list[Any]:
    """An SDK's usage object as JSON in each form that a handler may have."""
    made = [usage.model_dump(mode="json")]
    made.append(usage.model_dump(mode="json", exclude_none=True))
    made.append(usage.model_dump(mode="json", by_alias=True))
    return made
