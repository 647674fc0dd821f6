"""The prices of birdfeed and of genai-prices for the same raw answers."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from birdfeed_schemas.events import TextGeneration
from birdfeed_schemas.tables.providers import family_of
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.fallback import GenaiPrices, _literals
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.normalise import TABLE, usage_of
from birdfeed_worker.pricing.usage.plan import Table
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A raw answer of one model's provider, read by the extractor of one API flavour."""

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


#: Provider family → API flavours whose answers are tried: usage builders by content.
def openai_chat(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Chat completions, of OpenAI and compatible providers."""
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
    """Messages: cache not in the input, writes by lifetime, searches."""
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
    """Perplexity: reasoning and citations not in the totals, queries."""
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
    """xAI's REST: reasoning not in the completion."""
    made = openai_chat(prompt, cached, 0, out, reasoning)
    made["usage"]["total_tokens"] += reasoning
    return made


def realtime(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """Realtime: audio in and out, part of it cached."""
    return {
        "response": {
            "usage": {
                "input_tokens": prompt,
                "output_tokens": out,
                "total_tokens": prompt + out,
                "input_token_details": {
                    "text_tokens": prompt - audio,
                    "audio_tokens": audio,
                    "cached_tokens": cached // 2 + audio // 2,
                    "cached_tokens_details": {"text_tokens": cached // 2, "audio_tokens": audio // 2},
                },
                "output_token_details": {"text_tokens": out // 2, "audio_tokens": out - out // 2},
            }
        }
    }


def images(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """The Images API."""
    return {
        "usage": {
            "input_tokens": prompt,
            "output_tokens": out,
            "total_tokens": prompt + out,
            "input_tokens_details": {"text_tokens": prompt - audio, "image_tokens": audio},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": out},
        }
    }


def gemini_media(prompt: int, cached: int, audio: int, out: int, reasoning: int) -> dict[str, Any]:
    """generateContent with images, video and documents in, images out."""
    return {
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": out,
            "totalTokenCount": prompt + out,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": prompt - audio},
                {"modality": "IMAGE", "tokenCount": audio // 2},
                {"modality": "VIDEO" if reasoning > 500 else "DOCUMENT", "tokenCount": audio - audio // 2},
            ],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": out}],
        }
    }


BUILDERS: Mapping[tuple[str, str, int], Any] = {
    ("openai", "chat", 0): openai_chat,
    ("openai", "responses", 0): responses,
    ("azure", "chat", 0): openai_chat,
    ("anthropic", "default", 0): anthropic,
    ("aws", "default", 0): bedrock,
    ("aws", "anthropic", 0): anthropic,
    ("google", "default", 0): gemini,
    ("groq", "default", 0): openai_chat,
    ("mistral", "default", 0): openai_chat,
    ("deepseek", "chat", 0): openai_chat,
    ("fireworks", "chat", 0): openai_chat,
    ("xai", "chat", 0): xai_chat,
    ("perplexity", "default", 0): perplexity,
    ("cohere", "default", 0): cohere,
    ("moonshotai", "chat", 0): openai_chat,
    ("zai", "chat", 0): openai_chat,
    ("cerebras", "chat", 0): openai_chat,
    ("openai", "realtime", 0): realtime,
    ("openai", "images", 0): images,
    ("google", "default", 1): gemini_media,
}
#: prompt, cached, audio, completion, reasoning.
COUNTS = (
    (1_000, 0, 0, 100, 0),
    (10_000, 8_000, 0, 500, 0),
    (10_000, 2_000, 1_000, 500, 300),
    (250_000, 1_000, 0, 4_000, 1_000),
)


def names(provider: Provider, model: ModelInfo) -> Iterator[str]:
    """The names of a model that its provider may return; some ids exist only in genai-prices."""
    yield model.id
    yield from (literal for literal, _ in _literals(model.match))


def cases(prices: GenaiPrices) -> Iterator[tuple[Case, Provider, ModelInfo]]:
    """One of each kind of usage, of every model of the well-known providers that has its own name."""
    for provider in get_snapshot().providers:
        family = family_of(provider.id)
        flavours = [one for one in BUILDERS if one[0] == family and family_of(provider.id) in (provider.id, "xai")]
        for model in provider.models if flavours else ():
            for name in names(provider, model):
                found = prices.find(name, AT, family, {}, 0)
                if found is not None and found.entry.name == model.id and not found.entry.estimated:
                    break
            else:
                continue
            for flavour_of, counts in itertools.product(flavours, COUNTS):
                _, flavour, _ = flavour_of
                raw = BUILDERS[flavour_of](*counts)
                yield Case(provider=provider.id, model=name, flavour=flavour, raw=raw), provider, model


def theirs(case: Case, provider: Provider, model: ModelInfo) -> Decimal | None:
    """The cost from genai-prices with its own extractor; None if it has none."""
    try:
        _, usage = provider.extract_usage({**case.raw, "model": model.id}, api_flavor=case.flavour)
        return model.calc_price(usage, provider, genai_request_timestamp=AT, auto_update_timestamp=None).total_price
    except (ValueError, LookupError):
        return None


def compare(case: Case, provider: Provider, model: ModelInfo, books: Books, table: Table = TABLE) -> Difference | None:
    """Both prices of a case; None if genai-prices has none."""
    said = theirs(case, provider, model)
    if said is None:
        return None
    event = TextGeneration(model=case.model, provider=provider.id, usage=dict(case.raw))
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


__all__ = ["AT", "Case", "Difference", "cases", "compare", "usage_of"]
