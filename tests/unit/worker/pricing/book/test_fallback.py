"""genai-prices as the fallback: its rates, without its known faults."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.pricing.book.book import Books, load
from birdfeed_worker.pricing.book.entry import Entry
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from tests.support.pricing.cases import NOW, image, text, usd

BOOKS = Books((load(),), GenaiPrices())


def model(name: str, **rates: Any) -> ModelInfo:
    prices = ModelPrice(
        **{key: rate if isinstance(rate, TieredPrices) else Decimal(rate) for key, rate in rates.items()}
    )
    return ModelInfo(id=name, match=ClauseEquals(name), prices=prices)


def fallback(*models: ModelInfo, **providers: list[ModelInfo]) -> GenaiPrices:
    """A fallback with test data: models of their provider, whose names begin with "x-", and at other providers."""
    listed = [
        Provider(id="maker", name="Maker", api_pattern="", model_match=ClauseStartsWith("x-"), models=list(models))
    ]
    listed += [Provider(id=name, name=name, api_pattern="", models=theirs) for name, theirs in providers.items()]
    set_custom_snapshot(DataSnapshot(providers=listed, from_auto_update=False))
    try:
        prices = GenaiPrices()
        prices.find("", NOW, "", {}, 0)  # loads the data
    finally:
        set_custom_snapshot(None)
    return prices


def entry(prices: GenaiPrices, name: str, at: datetime = NOW, provider: str | None = None, **more: Any) -> Entry | None:
    tier = more.get("service_tier")
    found = prices.find(name, at, provider or "", {"service_tier": tier} if tier else {}, more.get("prompt_tokens", 0))
    return found.entry if found is not None else None


def test_a_model_no_book_has() -> None:
    """Its price and its layer."""
    price = text(BOOKS, model="gpt-4o", usage={"prompt_tokens": 1000, "completion_tokens": 100}).price

    assert (usd("0.0035"), "priced", "requested", "gpt-4o", "genai-prices", "openai") == (
        price.cost,
        price.cost_status,
        price.price_match,
        price.price_model,
        price.price_source,
        price.provider,
    )
    assert price.price_book.startswith("genai-prices ")


def test_books_have_priority() -> None:
    """A model that a book has, too, under its own name, is priced by the book."""
    assert text(BOOKS, model="gpt-4.1-nano", usage={"prompt_tokens": 1}).price.price_source == "book"


def test_the_answering_model_has_priority_over_the_requested_one() -> None:
    """A model that only the fallback knows has its own price, not that of the requested one."""
    price = text(BOOKS, model="openai", model_used="gpt-4o", usage={"prompt_tokens": 1000}).price

    assert ("gpt-4o", "name", usd("0.0025")) == (price.price_model, price.price_match, price.cost)


def test_without_a_fallback() -> None:
    """Books without a fallback have no price for what they don't list."""
    assert text(model="gpt-4o", usage={"prompt_tokens": 1}).price.cost_status == "unpriced"


def test_image_models_that_are_paid_by_tokens() -> None:
    """An image event gets its price from it if the provider reports tokens."""
    usage = {"input_tokens": 1000, "output_tokens": 0, "input_tokens_details": {"image_tokens": 1000}}
    price = image(BOOKS, model="gpt-image-1", provider="openai", usage=usage).price

    assert (usd("0.01"), "priced", "genai-prices") == (price.cost, price.cost_status, price.price_source)


def test_audio_without_a_rate_is_an_estimate() -> None:
    """genai-prices has no such rate, and no list has this snapshot's.

    Audio is priced at the text rate, and the row is estimated.
    """
    usage = {"prompt_tokens": 1000, "prompt_tokens_details": {"audio_tokens": 900}}
    price = text(BOOKS, model="gpt-4o-audio-preview-2024-10-01", usage=usage).price

    assert (usd("0.0025"), "estimated") == (price.cost, price.cost_status)
    assert {"prompt_text", "prompt_audio"} == set(price.rates)


@pytest.mark.parametrize("name", ["mystery", "constructor", "__proto__", "", "gpt-", "gpt-4o-ultra", "openai"])
def test_unknown_models(name: str) -> None:
    """No price, with any provider."""
    assert entry(GenaiPrices(), name) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-turbo", None),
        ("my-claude-sonnet-4-5", None),
        ("gpt-5-nano-2025-08-07", "gpt-5-nano"),
        ("gpt-5-nano-max", None),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("GPT-4o", None),
        ("gemini-1.5-flash-8b", None),
        ("gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini-2.5-pro-ultra", None),
        ("content-moderation-x", None),
        ("ft:gpt-4o-2024-08-06:org::id", None),
    ],
)
def test_a_name_that_only_contains_a_models_name_is_another_model(name: str, found: str | None) -> None:
    """In genai-prices names match by their beginning or a part.

    Here only a date, a version or a region may be added.
    """
    price = entry(GenaiPrices(), name)

    assert found == (price and price.name)


def test_a_fine_tuned_model_is_named_after_its_base() -> None:
    """Such a name continues with its owner's; the event must have its provider, which the name doesn't show."""
    found = entry(GenaiPrices(), "ft:gpt-4o-2024-08-06:org::id", provider="openai")

    assert found is not None
    assert found.name == "ft:gpt-4o"


@pytest.mark.parametrize(
    ("provider", "estimated", "listed_by"),
    [(None, False, "maker"), ("maker", False, "maker"), ("reseller", False, "reseller"), ("stranger", True, "maker")],
)
def test_provider(provider: str | None, estimated: bool, listed_by: str) -> None:
    """The price of the event's provider; that of the model's own provider as an estimate if the event's isn't known."""
    prices = fallback(model("x-1", input_mtok="1"), reseller=[model("x-1", input_mtok="2")])
    found = entry(prices, "x-1", provider=provider)

    assert found is not None
    assert (estimated, listed_by) == (found.estimated, found.provider)


def test_a_provider_that_does_not_list_the_model() -> None:
    """The price of the model's own provider, as an estimate."""
    prices = fallback(model("x-1", input_mtok="1"), reseller=[model("y", input_mtok="2")])
    price = text(Books((), prices), model="x-1", provider="reseller", usage={"prompt_tokens": 1000}).price

    assert (usd("0.001"), "estimated", "reseller") == (price.cost, price.cost_status, price.provider)


def test_service_tiers() -> None:
    """genai-prices ignores an unknown tier.

    Here it makes the row estimated, and so do rates that are known only in part.
    """
    one = model("x-1", input_mtok="2", cache_read_mtok="1", output_mtok="8")
    one.price_variants = [
        PriceVariant(when={"processing": "batch"}, prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(4))),
        PriceVariant(
            when={"service_tier": "flex"},
            prices=ModelPrice(input_mtok=Decimal(1), cache_read_mtok=Decimal("0.5"), output_mtok=Decimal(4)),
        ),
        PriceVariant(
            when={"service_tier": "priority"},
            prices=ModelPrice(input_mtok=Decimal(9)),
            constraint=StartDateConstraint(datetime(2030, 1, 1, tzinfo=UTC).date()),
        ),
    ]
    books = Books((), fallback(one))

    def priced(tier: str | None) -> tuple[str, str]:
        price = text(books, model="x-1", service_tier=tier, usage={"prompt_tokens": 1_000_000}).price
        return str(price.cost.normalize()), price.cost_status

    assert ("2", "priced") == priced(None) == priced("default") == priced("standard")
    assert priced("batch") == ("1", "estimated")
    assert priced("flex") == ("1", "priced")
    assert ("2", "estimated") == priced("priority") == priced("scale")


def test_what_is_paid_per_request() -> None:
    """One request an event, estimated if its cost depends on a search context that isn't reported."""
    books = Books((), fallback(model("x-1", input_mtok="2", requests_kcount="5")))
    price = text(books, model="x-1", usage={"prompt_tokens": 1_000_000}).price

    assert (usd("2.005"), "estimated") == (price.cost, price.cost_status)
    assert price.rates == {"prompt_text": "2", "requests": "5"}


def test_models_paid_by_characters() -> None:
    """Their rate is per million."""
    found = entry(fallback(model("x-1", input_mchars="2")), "x-1")

    assert found is not None
    assert found.rates == {"characters": 2}


@pytest.mark.parametrize(("prompt_tokens", "rate"), [(0, "1"), (200_000, "1"), (200_001, "2"), (2**62, "2")])
def test_rates_that_grow_with_the_prompt(prompt_tokens: int, rate: str) -> None:
    """Above a threshold all tokens have the higher rate."""
    tiered = TieredPrices(base=Decimal(1), tiers=[Tier(start=200_000, price=Decimal(2))])
    prices = fallback(model("x-1", input_mtok=tiered))
    found = entry(prices, "x-1", prompt_tokens=prompt_tokens)

    assert found is not None
    assert Decimal(rate) == found.rates["prompt_text"]


def test_dated_prices() -> None:
    """The price at the time of the event."""
    one = model("x-1", input_mtok="2")
    one.prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2))),
        ConditionalPrice(
            StartDateConstraint(datetime(2026, 6, 1, tzinfo=UTC).date()), prices=ModelPrice(input_mtok=Decimal(1))
        ),
    ]
    prices = fallback(one)
    rates = [
        found.rates["prompt_text"]
        for found in (entry(prices, "x-1", at=datetime(2026, month, 1, tzinfo=UTC)) for month in (5, 6, 7, 5))
        if found is not None
    ]

    assert rates == [2, 1, 1, 2]


def test_prices_by_the_hour() -> None:
    """Off-peak prices are used off peak, on the same day."""
    one = model("x-1", input_mtok="2")
    night = TimeOfDateConstraint(
        start_time=datetime(2026, 1, 1, 16, 30, tzinfo=UTC).timetz(),
        end_time=datetime(2026, 1, 1, 0, 30, tzinfo=UTC).timetz(),
    )
    one.prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2))),
        ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal(1))),
    ]
    prices = fallback(one)
    rates = [
        found.rates["prompt_text"]
        for found in (entry(prices, "x-1", at=datetime(2026, 5, 1, hour, tzinfo=UTC)) for hour in (12, 17, 0, 12))
        if found is not None
    ]

    assert rates == [2, 1, 1, 2]


@pytest.mark.heavy
def test_every_model_costs_what_genai_prices_computes() -> None:
    """For each model found by its own id at its provider: text in and out cost what calc_price says."""
    prices, at = GenaiPrices(), datetime(2030, 1, 1, 12, tzinfo=UTC)
    compared = 0
    for provider in get_snapshot().providers:
        for theirs in provider.models:
            found = prices.find(theirs.id, at, provider.id, {}, 1000)
            if found is None or found.entry.estimated or "requests" in found.entry.rates:
                continue
            if not {"prompt_text", "completion_text"} <= found.entry.rates.keys():
                continue
            said = calc_price(
                TheirUsage(input_tokens=1000, output_tokens=100),
                theirs.id,
                provider_id=provider.id,
                genai_request_timestamp=at,
            )
            ours = text(
                Books((), prices),
                model=theirs.id,
                provider=provider.id,
                start_time=at,
                usage={"prompt_tokens": 1000, "completion_tokens": 100},
            ).price
            compared += 1

            assert round(said.input_price + said.output_price, 12) == ours.cost, theirs.id

    assert compared > 1500


def test_lookups_are_cached() -> None:
    """A model is searched once, found or not."""
    prices = GenaiPrices()
    once = [prices.find("gpt-4o", NOW, "", {}, 5), prices.find("mystery", NOW, "", {}, 5)]
    snapshot, prices.__dict__["_snapshot"] = prices.__dict__["_snapshot"], None
    again = [prices.find("gpt-4o", NOW, "", {}, 5), prices.find("mystery", NOW, "", {}, 5)]

    assert snapshot is not None
    assert once[0] is again[0]
    assert [once[1], again[1]] == [None, None]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come from handlers; many of them don't fill the memory."""
    monkeypatch.setattr("birdfeed_worker.pricing.book.fallback._MAX_REMEMBERED", 10)
    prices = GenaiPrices()
    for number in range(100):
        prices.find(f"flood-{number}", NOW, "", {}, 0)
        prices.find("gpt-4o", NOW, "", {"service_tier": f"tier-{number}"}, 0)

    assert max(prices._known_as.cache_info().currsize, len(prices._found)) <= 10


def test_imported_when_first_needed() -> None:
    """The package takes 0.1 s to import: so not before a model needs it."""
    code = (
        "import sys; from birdfeed_worker.pricing.book.fallback import GenaiPrices; GenaiPrices(); "
        "assert not any(name.startswith('genai_prices') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reported with what to do."""

    def missing(name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr("birdfeed_worker.pricing.book.fallback.version", missing)

    with pytest.raises(ConfigurationError, match=r"install birdfeed\[worker\]"):
        GenaiPrices()
