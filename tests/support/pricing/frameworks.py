"""Usage objects as frameworks and the SDKs that the tests don't install make them, with the expected result of each.

Nothing here is imported before it is built: `make recordings` builds them in environments of their own, and writes
each, as birdfeed's producer sends it, into tests/data/sdk_usage.json.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Expected(NamedTuple):
    """The expected result of a usage: its provider, its tokens by class, and its cost in USD, with the arithmetic in a
    comment.
    """

    distribution: str
    make: Callable[[], Any]
    provider: str
    model: str
    tokens: Mapping[str, int]
    cost: str
    status: str = "priced"
    usage: str = "ok"


def _openai_result(service_tier: str) -> Any:
    from langchain_openai import ChatOpenAI
    from openai.types.chat import ChatCompletion

    response = ChatCompletion.model_validate(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "service_tier": service_tier,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}],
            "usage": {
                "prompt_tokens": 1000,
                "completion_tokens": 300,
                "total_tokens": 1300,
                "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 0},
            },
        }
    )
    return ChatOpenAI(model="gpt-4o", api_key="none")._create_chat_result(response)


def _openai_message(service_tier: str) -> Any:
    return _openai_result(service_tier).generations[0].message


def langchain_openai() -> Any:
    return _openai_message("default").usage_metadata


def langchain_openai_priority() -> Any:
    return _openai_message("priority").usage_metadata


def langchain_openai_token_usage() -> Any:
    return _openai_result("default").llm_output["token_usage"]


def langchain_openai_message() -> Any:
    return _openai_message("default")


def langchain_openai_responses() -> Any:
    from langchain_openai.chat_models.base import _create_usage_metadata_responses

    return _create_usage_metadata_responses(
        {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 100},
            "total_tokens": 1300,
        },
        "flex",
    )


def _anthropic_result() -> Any:
    from anthropic.types import Message
    from langchain_anthropic import ChatAnthropic

    response = Message.model_validate(
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [{"type": "text", "text": ""}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 100,
                "output_tokens": 50,
                "cache_read_input_tokens": 2000,
                "cache_creation_input_tokens": 3000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
                "service_tier": "standard",
            },
        }
    )
    return ChatAnthropic(model_name="claude-sonnet-4-5", api_key="none")._format_output(response)


def _anthropic_message() -> Any:
    return _anthropic_result().generations[0].message


def langchain_anthropic() -> Any:
    return _anthropic_message().usage_metadata


def langchain_anthropic_usage() -> Any:
    return _anthropic_result().llm_output["usage"]


def langchain_sum() -> Any:
    from langchain_core.messages.ai import add_usage

    return add_usage(_anthropic_message().usage_metadata, _anthropic_message().usage_metadata)


def _extracted(provider: str, url: str, model: str, usage: Mapping[str, Any], flavor: str = "default") -> Any:
    from pydantic_ai.usage import RequestUsage

    data = {"model": model, "usage": usage}
    return RequestUsage.extract(
        data, provider=provider, provider_url=url, provider_fallback=provider, api_flavor=flavor
    )


def pydantic_ai_anthropic() -> Any:
    return _extracted(
        "anthropic",
        "https://api.anthropic.com",
        "claude-sonnet-4-5",
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 2000,
            "cache_creation_input_tokens": 3000,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
        },
    )


def pydantic_ai_openai() -> Any:
    return _extracted(
        "openai",
        "https://api.openai.com",
        "gpt-4o",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        "chat",
    )


def pydantic_ai_run() -> Any:
    from pydantic_ai.usage import RunUsage

    run = RunUsage(requests=2, tool_calls=1)
    run.incr(pydantic_ai_openai())
    run.incr(pydantic_ai_openai())
    return run


def cohere_chat() -> Any:
    from cohere.types import Usage, UsageBilledUnits, UsageTokens

    return Usage(
        billed_units=UsageBilledUnits(input_tokens=5, output_tokens=418),
        tokens=UsageTokens(input_tokens=71, output_tokens=418),
    )


def cohere_rerank() -> Any:
    from cohere.types import ApiMeta, ApiMetaApiVersion, ApiMetaBilledUnits

    return ApiMeta(api_version=ApiMetaApiVersion(version="2"), billed_units=ApiMetaBilledUnits(search_units=3))


def _xai(**counts: int) -> Any:
    from xai_sdk.proto import usage_pb2

    return usage_pb2.SamplingUsage(
        prompt_tokens=1000,
        prompt_text_tokens=1000,
        cached_prompt_text_tokens=400,
        completion_tokens=50,
        reasoning_tokens=250,
        total_tokens=1300,
        **counts,
    )


def xai_chat() -> Any:
    return _xai()


def xai_cost() -> Any:
    return _xai(num_sources_used=3, cost_in_usd_ticks=123_450_000)


def xai_dict() -> Any:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(_xai(), preserving_proto_field_name=True)


_OPENAI = {"prompt_text": 600, "prompt_cached": 400, "completion_text": 200, "completion_reasoning": 100}
_ANTHROPIC = {
    "prompt_text": 100,
    "prompt_cached": 2000,
    "prompt_cache_write": 1000,
    "prompt_cache_write_1h": 2000,
    "completion_text": 50,
}
_XAI = {"prompt_text": 600, "prompt_cached": 400, "completion_text": 50, "completion_reasoning": 250}
#: 600 at 2.50, 400 at 1.25, 300 at 10 a million.
_GPT_4O = "0.005"
#: 100 at 3, 2000 at 0.30, 1000 at 3.75, 2000 at 6, 50 at 15 a million.
_SONNET = "0.0174"
FRAMEWORKS: dict[str, Expected] = {
    "langchain-openai": Expected("langchain-openai", langchain_openai, "openai", "gpt-4o", _OPENAI, _GPT_4O),
    "langchain-openai, priority tier": Expected(
        # 1.7 times.
        *("langchain-openai", langchain_openai_priority, "openai", "gpt-4o-2024-08-06", _OPENAI, "0.0085"),
    ),
    "langchain-openai, token_usage": Expected(
        "langchain-openai", langchain_openai_token_usage, "openai", "gpt-4o", _OPENAI, _GPT_4O
    ),
    "langchain-openai, the message": Expected(
        "langchain-openai", langchain_openai_message, "openai", "gpt-4o", _OPENAI, _GPT_4O
    ),
    "langchain-openai responses, flex tier": Expected(
        # 600 at 0.55, 400 at 0.138, 300 at 2.20 a million: OpenAI's flex table.
        *("langchain-openai", langchain_openai_responses, "openai", "o4-mini", _OPENAI, "0.0010452"),
    ),
    "langchain-anthropic": Expected(
        "langchain-anthropic", langchain_anthropic, "anthropic", "claude-sonnet-4-5", _ANTHROPIC, _SONNET
    ),
    "langchain-anthropic, usage": Expected(
        # And two searches at 10 a thousand.
        *("langchain-anthropic", langchain_anthropic_usage, "anthropic", "claude-sonnet-4-5", _ANTHROPIC, "0.0374"),
    ),
    "langchain-core, two summed": Expected(
        *("langchain-core", langchain_sum, "anthropic", "claude-sonnet-4-5"),
        {name: 2 * count for name, count in _ANTHROPIC.items()},
        "0.0348",
    ),
    "pydantic-ai, anthropic": Expected(
        "pydantic-ai-slim", pydantic_ai_anthropic, "anthropic", "claude-sonnet-4-5", _ANTHROPIC, _SONNET
    ),
    "pydantic-ai, openai": Expected("pydantic-ai-slim", pydantic_ai_openai, "openai", "gpt-4o", _OPENAI, _GPT_4O),
    "pydantic-ai, a run": Expected(
        *("pydantic-ai-slim", pydantic_ai_run, "openai", "gpt-4o"),
        {name: 2 * count for name, count in _OPENAI.items()},
        "0.01",
    ),
    "cohere chat": Expected(
        # 5 at 2.50 and 418 at 10 a million: the billed tokens, not the counted ones.
        *(
            "cohere",
            cohere_chat,
            "cohere",
            "command-a-03-2025",
            {"prompt_text": 5, "completion_text": 418},
            "0.0041925",
        ),
    ),
    "cohere rerank": Expected(
        # Three search units at 2 USD a thousand.
        *("cohere", cohere_rerank, "cohere", "rerank-v3.5", {}, "0.006"),
    ),
    "xai-sdk": Expected(
        # 600 at 3, 400 at 0.75, 300 at 15 a million: reasoning is not in the completion.
        *("xai-sdk", xai_chat, "xai", "grok-4-0709", _XAI, "0.0066"),
    ),
    "xai-sdk, as a dict": Expected("xai-sdk", xai_dict, "xai", "grok-4-0709", _XAI, "0.0066"),
    "xai-sdk, with its cost": Expected(
        # Its sources are billed at an unpublished rate; the reported cost includes them.
        *("xai-sdk", xai_cost, "xai", "grok-4-0709", _XAI, "0.012345", "reported", "incomplete"),
    ),
}
