"""Priority of prices: the shipped book has one platform's deployments, and is used for no other platform's."""

from typing import Any

import pytest
from birdfeed_worker.pricing.book.book import Books, load, media_book, parse
from birdfeed_worker.pricing.book.fallback import GenaiPrices

from tests.support.pricing.cases import DEFAULT, NOW, image, text, usd

USAGE = {"prompt_tokens": 10_000, "completion_tokens": 1_000, "total_tokens": 11_000}
CACHED = {**USAGE, "prompt_tokens_details": {"cached_tokens": 8_000}}


@pytest.mark.parametrize(
    ("data", "cost", "status", "source"),
    [
        # The deployment isn't used for another provider's events.
        ({"model": "gpt-4.1-nano", "provider": "openai", "usage": CACHED}, "0.0008", "priced", "genai-prices"),
        ({"model": "gpt-4.1-nano", "provider": "azure.ai.openai", "usage": CACHED}, "0.00084", "priced", "book"),
        ({"model": "gpt-4.1-nano", "usage": CACHED}, "0.00084", "priced", "book"),
        ({"model": "openai", "provider": "openai", "usage": USAGE}, "0", "unpriced", "none"),
        ({"model": "openai/gpt-4.1-nano", "usage": CACHED}, "0.0008", "priced", "genai-prices"),
        # Found by the provider's own name: used for its platform's names; public models have priority.
        ({"model": "openai-fast", "model_used": "gpt-5-nano-2025-08-07", "usage": USAGE}, "0.00085", "priced", "book"),
        (
            {"model": "my-deployment", "model_used": "gpt-5-nano-2025-08-07", "usage": USAGE},
            "0.00085",
            "priced",
            "book",
        ),
        ({"model": "gpt-5-nano", "model_used": "gpt-5-nano-2025-08-07", "usage": USAGE}, "0.0009", "priced", None),
        ({"model": "gpt-5-mini-2025-08-07", "usage": USAGE}, "0.0045", "priced", "genai-prices"),
        ({"model": "gpt-5-mini-2025-08-07", "provider": "azure", "usage": USAGE}, "0.00393", "priced", "book"),
        # A rate of 0 must be confirmed.
        ({"model": "openai-reasoning", "model_used": "o4-mini-2025-04-16", "usage": USAGE}, "0", "priced", "book"),
        ({"model": "mine", "model_used": "o4-mini-2025-04-16", "usage": USAGE}, "0", "unpriced", "book"),
        (
            {"model": "mine", "model_used": "o4-mini-2025-04-16", "provider": "api.navy", "usage": USAGE},
            "0",
            "priced",
            "book",
        ),
        ({"model": "o4-mini", "model_used": "o4-mini-2025-04-16", "usage": USAGE}, "0.0154", "priced", "genai-prices"),
    ],
    ids=repr,
)
def test_a_deployment_is_used_for_its_platform_only(
    data: dict[str, Any], cost: str, status: str, source: str | None
) -> None:
    """Each rule once."""
    price = text(DEFAULT, **data).price

    assert (usd(cost), status, source or price.price_source) == (price.cost, price.cost_status, price.price_source)


def test_audio_by_alias() -> None:
    """Without a provider the book is used for an alias; with the model's provider, the provider's price."""
    usage = {**USAGE, "prompt_tokens_details": {"audio_tokens": 5_000}}
    own = text(DEFAULT, model="gpt-4o-mini-audio-preview", usage=usage).price
    theirs = text(DEFAULT, model="gpt-4o-mini-audio-preview", provider="openai", usage=usage).price

    assert (own.price_source, theirs.price_source) == ("book", "genai-prices")


@pytest.mark.parametrize(("own_only", "source"), [(False, "operator"), (True, "genai-prices")])
def test_the_operators_entries_are_for_all_providers_by_default(own_only: bool, source: str) -> None:
    """An operator knows which models the program calls."""
    toml = (
        '[[model]]\nname = "gpt-4o"\nprovider = "azure"\nunit = "token"\n'
        "price = { prompt_text = 7, completion_text = 7 }\n"
    ).replace("unit", f"own_provider_only = {str(own_only).lower()}\nunit")
    books = Books((parse(toml, origin="own.toml"), load()), GenaiPrices(), media_book)

    assert source == text(books, model="gpt-4o", provider="openai", usage=USAGE).price.price_source


def test_the_provider_column() -> None:
    """The event's own, else the name's prefix, else that of the used price."""
    assert [
        text(DEFAULT, usage=USAGE, **data).price.provider
        for data in (
            {"model": "gpt-4o", "provider": "My Proxy"},
            {"model": "openai/gpt-4o"},
            {"model": "gpt-4o"},
            {"model": "claude"},
        )
    ] == ["My Proxy", "openai", "openai", "aws-bedrock"]


@pytest.mark.parametrize(
    ("name", "cost", "status"),
    [
        ("deepseek/deepseek-r1:free", "0", "priced"),
        ("openai/gpt-4o:online", "0.035", "partial"),
        ("openai/gpt-4o:nitro", "0.035", "estimated"),
        ("somebody/unknown:online", "0", "unpriced"),
    ],
)
def test_openrouters_suffixes(name: str, cost: str, status: str) -> None:
    """`:free` costs nothing, `:online` at least the base, others about the base."""
    price = text(DEFAULT, model=name, provider="openrouter", usage=USAGE).price

    assert (usd(cost), status) == (price.cost, price.cost_status)


def test_a_fine_tuned_model_never_takes_its_bases_price() -> None:
    """Nor with a gateway's prefix."""
    base = text(DEFAULT, model="gpt-4o-mini", provider="openai", usage=USAGE).price
    tuned = text(DEFAULT, model="openai/ft:gpt-4o-mini-2024-07-18:org::id", usage=USAGE).price

    assert tuned.cost != base.cost


def test_regional_is_not_global() -> None:
    """Bedrock's global profile is cheaper than a region's."""
    data = {"provider": "aws", "usage": {"input_tokens": 10_000, "output_tokens": 1_000}}
    ids = [f"{where}.anthropic.claude-sonnet-4-5-20250929-v1:0" for where in ("global", "us", "eu")]

    assert [usd("0.045"), usd("0.0495"), usd("0.0495")] == [text(DEFAULT, model=one, **data).price.cost for one in ids]


@pytest.mark.parametrize(
    ("data", "cost", "status", "source"),
    [
        ({"model": "gpt-image-1", "quality": "low", "image_size": "1024x1024"}, "0.011", "estimated", "media"),
        ({"model": "dall-e-3", "quality": "hd", "image_size": "1024x1792", "num_images": 2}, "0.24", "priced", "media"),
        ({"model": "imagen-4.0-generate-001", "provider": "google"}, "0.04", "priced", "media"),
        ({"model": "imagen-4.0-generate-001", "provider": "vertex_ai"}, "0.04", "estimated", "media"),
        ({"model": "fal-ai/flux/schnell"}, "0.003", "priced", "media"),
        ({"model": "whisper-1", "audio_seconds": 60}, "0.006", "priced", "genai-prices"),
        ({"model": "tts-1", "characters": 1_000}, "0.015", "priced", "genai-prices"),
        ({"model": "nanobanana"}, "0", "no_usage", "book"),
        ({"model": "flux", "provider": "fal"}, "0.002", "priced", "book"),
        ({"model": "nobody-knows"}, "0", "unpriced", "none"),
    ],
    ids=repr,
)
def test_media(data: dict[str, Any], cost: str, status: str, source: str) -> None:
    """Public image, video and speech models, after every other layer; a model in a book is never priced by them."""
    price = image(DEFAULT, **data).price

    assert (usd(cost), status) == (price.cost, price.cost_status)
    assert price.price_source in (source, "media")


def test_absurd_costs_are_not_prices() -> None:
    """More than a million USD an event is a mistake, from any source."""
    events = [
        text(DEFAULT, model="gpt-4o", usage={"prompt_tokens": 2**62}),
        text(DEFAULT, model="gpt-4o", cost=1_000_001),
        text(DEFAULT, model="a/b", provider="openrouter", usage={"prompt_tokens": 1, "cost": 2e6}),
    ]

    assert {("unpriced", usd("0"))} == {(one.price.cost_status, one.price.cost) for one in events}
    assert NOW.year > 2000


_AUDIO = {
    "prompt_tokens": 1000,
    "completion_tokens": 500,
    "prompt_tokens_details": {"audio_tokens": 900},
    "completion_tokens_details": {"audio_tokens": 400},
}


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        # 100 at 2.5 and 900 at 40, 100 at 10 and 400 at 80 a million.
        *((f"gpt-4o-audio-preview{date}", _AUDIO, "0.06925") for date in ("", "-2024-12-17", "-2025-06-03")),
        ("rerank-v3.5", {"billed_units": {"search_units": 3}}, "0.006"),
        ("cohere/rerank-multilingual-v3.0", {"meta": {"billed_units": {"search_units": 3}}}, "0.006"),
        ("rerank-v4.0-pro", {"billed_units": {"search_units": 3}}, "0.0075"),
    ],
)
def test_models_for_which_genai_prices_has_no_rate(model: str, usage: dict[str, Any], cost: str) -> None:
    """The shipped book's corrections have one."""
    price = text(DEFAULT, model=model, usage=usage).price

    assert (price.cost, price.cost_status, price.price_source) == (usd(cost), "priced", "book")
