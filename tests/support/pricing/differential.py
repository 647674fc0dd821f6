"""birdfeed's price and genai-prices' own, of the same raw answers; and why the two may differ."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from birdfeed_schemas.meters import METERS
from birdfeed_schemas.providers import family_of
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.normalise import TABLE, usage_of
from birdfeed_worker.pricing.usage.plan import Table
from birdfeed_schemas.events import TextGeneration
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A raw answer of one model's provider, as the extractor of one API flavour reads it."""

    provider: str
    model: str
    flavour: str
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Both costs of a case in USD, and the meters that are in it."""

    case: Case
    ours: Decimal
    theirs: Decimal
    meters: frozenset[str]
    status: str


#: Provider family → API flavours whose answers are tried: usage builders by what they hold.
def openai_chat(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Chat completions, at OpenAI and everybody who speaks like it."""
    return {
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": out,
            "total_tokens": prompt + out,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        }
    }


def responses(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """The Responses API."""
    return {
        "usage": {
            "input_tokens": prompt,
            "output_tokens": out,
            "total_tokens": prompt + out,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens_details": {"reasoning_tokens": reasoning},
        }
    }


def anthropic(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Messages: cache beside input, writes by lifetime, searches."""
    return {
        "usage": {
            "input_tokens": prompt,
            "output_tokens": out,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": audio + reasoning,
            "cache_creation": {"ephemeral_5m_input_tokens": audio, "ephemeral_1h_input_tokens": reasoning},
            "server_tool_use": {"web_search_requests": 2 if reasoning else 0},
        }
    }


def bedrock(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Converse."""
    return {
        "usage": {
            "inputTokens": prompt,
            "outputTokens": out,
            "totalTokens": prompt + out + cached + audio,
            "cacheReadInputTokens": cached,
            "cacheWriteInputTokens": audio,
        }
    }


def gemini(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """generateContent, by modality."""
    return {
        "usageMetadata": {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": out,
            "thoughtsTokenCount": reasoning,
            "totalTokenCount": prompt + out + reasoning,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": prompt - audio},
                {"modality": "AUDIO", "tokenCount": audio},
            ],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": cached}],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": out}],
        }
    }


def perplexity(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Perplexity: reasoning and citations beside, queries."""
    return {
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": out,
            "total_tokens": prompt + out,
            "reasoning_tokens": reasoning,
            "citation_tokens": audio,
            "num_search_queries": 3,
        }
    }


def cohere(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Cohere's billed units."""
    return {"usage": {"billed_units": {"input_tokens": prompt, "output_tokens": out}, "tokens": {"input_tokens": 9}}}


def xai_chat(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """xAI's REST: reasoning beside."""
    made = openai_chat(prompt, cached, 0, out, reasoning)
    made["usage"]["total_tokens"] += reasoning
    return made


BUILDERS: Mapping[tuple[str, str], Any] = {
    ("openai", "chat"): openai_chat,
    ("openai", "responses"): responses,
    ("azure", "chat"): openai_chat,
    ("anthropic", "default"): anthropic,
    ("aws", "default"): bedrock,
    ("aws", "anthropic"): anthropic,
    ("google", "default"): gemini,
    ("groq", "default"): openai_chat,
    ("mistral", "default"): openai_chat,
    ("deepseek", "chat"): openai_chat,
    ("fireworks", "chat"): openai_chat,
    ("xai", "chat"): xai_chat,
    ("perplexity", "default"): perplexity,
    ("cohere", "default"): cohere,
    ("moonshotai", "chat"): openai_chat,
    ("zai", "chat"): openai_chat,
    ("cerebras", "chat"): openai_chat,
}
#: prompt, cached, audio, completion, reasoning.
COUNTS = (
    (1_000, 0, 0, 100, 0),
    (10_000, 8_000, 0, 500, 0),
    (10_000, 2_000, 1_000, 500, 300),
    (250_000, 1_000, 0, 4_000, 1_000),
)


def cases() -> Iterator[Case]:
    """One of each kind of usage, of every model of the well-known providers."""
    for provider in get_snapshot().providers:
        family = family_of(provider.id)
        flavours = [one for one in BUILDERS if one[0] == family]
        for model, (_, flavour), counts in itertools.product(provider.models, flavours, COUNTS):
            yield Case(
                provider=provider.id,
                model=model.id,
                flavour=flavour,
                raw=BUILDERS[family, flavour](*counts),
            )


def theirs(case: Case, provider: Provider, model: ModelInfo) -> Decimal | None:
    """What genai-prices makes of it, by its own extractor; None where it can't."""
    try:
        _, usage = provider.extract_usage({**case.raw, "model": model.id}, api_flavor=case.flavour)
        return model.calc_price(
            usage, provider, genai_request_timestamp=AT, auto_update_timestamp=None
        ).total_price
    except (ValueError, LookupError):
        return None


def compare(case: Case, provider: Provider, model: ModelInfo, books: Books, table: Table = TABLE) -> Difference | None:
    """Both prices of a case; None where genai-prices has none."""
    said = theirs(case, provider, model)
    if said is None:
        return None
    event = TextGeneration(model=model.id, provider=provider.id, usage=dict(case.raw))
    usage = usage_of(event, table)
    price = price_event("text_generation", event, usage, AT, books)
    counted = {name for name, count in usage.tokens._asdict().items() if count} | usage.counters.keys()
    return Difference(
        case=case,
        ours=price.cost,
        theirs=round(said, 12),
        meters=frozenset(counted),
        status=price.cost_status,
    )


__all__ = ["AT", "METERS", "Case", "Difference", "cases", "compare"]
