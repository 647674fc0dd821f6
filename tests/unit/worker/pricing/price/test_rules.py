"""The rules of cost and of the choice of a price, one test or table each."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from birdfeed_schemas.enrichment import Tokens, Usage
from birdfeed_schemas.events import ImageGeneration, TextGeneration
from birdfeed_worker.pricing.book.book import Books, load
from birdfeed_worker.pricing.price.price import price_event

from tests.support.pricing.books import BOOK, tokens
from tests.support.pricing.cases import NOW, SHIPPED, book, image, text, usd


@pytest.mark.parametrize(
    ("model", "usage", "cost", "status", "rates"),
    [
        ("full", tokens(), "0.005", "priced", {"prompt_text": "1", "completion_text": "4"}),
        (
            "full",
            tokens(prompt_cached=100, completion_reasoning=100),
            "0.00501",
            "priced",
            {
                "prompt_text": "1",
                "prompt_cached": "0.1",
                "completion_text": "4",
                "completion_reasoning": "5",
            },
        ),
        (
            "text-only",
            tokens(prompt_cached=100),
            "0.005",
            "estimated",
            {"prompt_text": "1", "prompt_cached": "1", "completion_text": "4"},
        ),
        (
            "text-only",
            tokens(prompt_cache_write=100),
            "0.005",
            "estimated",
            {"prompt_text": "1", "prompt_cache_write": "1", "completion_text": "4"},
        ),
        (
            "text-only",
            tokens(completion_reasoning=1000),
            "0.005",
            "priced",
            {"prompt_text": "1", "completion_reasoning": "4"},
        ),
        ("text-only", tokens(prompt_audio=100), "0.0049", "partial", {"prompt_text": "1", "completion_text": "4"}),
        ("text-only", tokens(prompt_image=100), "0.0049", "partial", {"prompt_text": "1", "completion_text": "4"}),
        ("text-only", tokens(completion_audio=1000), "0.001", "partial", {"prompt_text": "1"}),
        ("text-only", tokens(completion_image=1000), "0.001", "partial", {"prompt_text": "1"}),
        (
            "text-only",
            tokens(prompt_cached=100, prompt_audio=100),
            "0.0049",
            "partial",
            {"prompt_text": "1", "prompt_cached": "1", "completion_text": "4"},
        ),
        ("completion-only", tokens(), "0", "partial", {}),
        ("completion-only", tokens(prompt_cached=1000, completion_reasoning=1000), "0", "partial", {}),
        ("completion-only", tokens(completion_image=1000), "0.008", "partial", {"completion_image": "8"}),
    ],
)
def test_classes_without_a_rate(
    model: str, usage: dict[str, Any], cost: str, status: str, rates: dict[str, str]
) -> None:
    """Caches are priced at prompt_text (estimated), reasoning at completion_text (priced), the rest not at all
    (partial).
    """
    price = text(BOOK, model=model, usage=usage).price

    assert (usd(cost), status, rates) == (price.cost, price.cost_status, price.rates)


@pytest.mark.parametrize(
    ("tier", "cost", "status", "multiplier"),
    [
        (None, "0.005", "priced", None),
        ("", "0.005", "priced", None),
        ("default", "0.005", "priced", None),
        ("batch", "0.0025", "priced", "0.5"),
        (" Batch ", "0.0025", "priced", "0.5"),
        ("priority", "0.00875", "priced", "1.75"),
        ("flex", "0.005", "estimated", None),
        ("nobody-knows", "0.005", "estimated", None),
    ],
)
def test_service_tier(tier: str | None, cost: str, status: str, multiplier: str | None) -> None:
    """The book's multiplier, the model's own before the book's; an unknown one makes the row estimated."""
    price = text(BOOK, model="full", usage=tokens(), service_tier=tier).price

    assert (usd(cost), status, multiplier) == (
        price.cost,
        price.cost_status,
        price.rates.get("service_tier_multiplier"),
    )


def test_a_models_own_tiers_are_not_used_for_others() -> None:
    """`priority` is the multiplier of one model; for another it is unknown."""
    price = text(BOOK, model="text-only", usage=tokens(), service_tier="priority").price

    assert (usd("0.005"), "estimated") == (price.cost, price.cost_status)


def test_tier_of_images_and_seconds() -> None:
    """Multipliers apply to every unit."""
    assert usd("0.02") == image(BOOK, model="picture", service_tier="batch").price.cost
    assert image(BOOK, model="picture", service_tier="fast").price.cost_status == "estimated"
    assert usd("0.04") == image(BOOK, model="film", video_seconds=1, service_tier="batch").price.cost


@pytest.mark.parametrize(
    ("used", "asked", "match", "model"),
    [
        ("full", "text-only", "name", "full"),
        ("also-full", "text-only", "alias", "full"),
        ("full-2026", "text-only", "original_name", "full"),
        ("stranger", "text-only", "requested", "text-only"),
        ("stranger", "also-full", "requested", "full"),
        ("stranger", "full-2026", "requested", "full"),
        (None, "full", "requested", "full"),
        ("", "full", "requested", "full"),
        ("stranger", "nobody", "none", None),
        ("FULL", "Full", "name", "full"),
        ("full ", "ful", "name", "full"),
        ("full-2027", "full-", "none", None),
        ("constructor", "__proto__", "none", None),
        ("__class__", "toString", "none", None),
    ],
)
def test_which_price(used: str | None, asked: str, match: str, model: str | None) -> None:
    """The model that answered, by name, alias, original name; then the requested one; then none.

    Never a similar one.
    """
    price = text(BOOK, model=asked, model_used=used, usage=tokens()).price

    assert (match, model) == (price.price_match, price.price_model)


def test_name_has_priority_over_alias_over_original_name() -> None:
    """If one text is a name of several models, the kind of name decides, not the position in the file."""
    one = '[[model]]\nname = "{}"\n{}\nunit = "token"\nprice = {{ prompt_text = 1 }}\n'
    original = one.format("c", 'original_name = "x"')
    alias = one.format("b", 'aliases = ["x"]')
    name = one.format("x", "")

    assert text(book(original + alias), model="x", usage=tokens()).price.price_model == "b"
    assert text(book(original + name), model="x", usage=tokens()).price.price_model == "x"


@pytest.mark.parametrize(
    ("start", "cost"),
    [
        ("2020-01-01T00:00:00Z", "0.003"),
        ("2025-12-31T23:59:59.999999Z", "0.003"),
        ("2026-01-01T00:00:00Z", "0.002"),
        ("2026-01-01T00:30:00+01:00", "0.003"),
        ("2026-06-01T11:59:59Z", "0.002"),
        ("2026-06-01T12:00:00Z", None),
        ("2026-07-01T00:00:00Z", "0.001"),
        (1_767_225_600, "0.002"),
        (1_767_225_599_999, "0.003"),
    ],
)
def test_the_price_at_the_time(start: object, cost: str | None) -> None:
    """The entry in force at the event's start; in a gap there is none."""
    price = text(BOOK, model="dated", usage={"prompt_tokens": 1000}, start_time=start).price

    assert (usd(cost or "0"), "priced" if cost else "unpriced") == (price.cost, price.cost_status)


def test_the_time_without_a_start() -> None:
    """An event without start_time has the price at the time it was tracked."""
    event = TextGeneration(model="dated", usage={})
    usage = Usage(status="ok", tokens=Tokens(prompt_text=1000))
    price = price_event("text_generation", event, usage, datetime(2026, 2, 1, tzinfo=UTC), BOOK)

    assert usd("0.002") == price.cost


def test_layers() -> None:
    """The operator's book has priority, with any of a model's names; then the shipped book."""
    operator = book('[[model]]\nname = "mine"\noriginal_name = "flux"\nunit = "image"\nprice = { image = 1 }\n')
    both = Books((*operator.layers, load()))
    mine, shipped = image(both, model="flux").price, image(both, model="zimage").price

    assert ("mine", usd("1"), "operator") == (mine.price_model, mine.cost, mine.price_source)
    assert ("zimage", usd("0.004"), "book") == (shipped.price_model, shipped.cost, shipped.price_source)
    assert [layer.hash for layer in both.layers] == [mine.price_book, shipped.price_book]


@pytest.mark.parametrize(
    ("data", "cost", "status", "source"),
    [
        ({"model": "full", "cost": 0.0123, "usage": tokens()}, "0.0123", "reported", "event"),
        ({"model": "full", "cost": "0.1"}, "0.1", "reported", "event"),
        ({"model": "full", "cost": 0, "usage": tokens()}, "0", "reported", "event"),
        ({"model": "stranger", "cost": 0.5}, "0.5", "reported", "event"),
        ({"model": "full", "cost": 0.5, "usage": "broken"}, "0.5", "reported", "event"),
        ({"model": "full", "cost": "0.0000000000005"}, "0", "reported", "event"),
        ({"model": "full", "cost": "0.0000000000015"}, "0.000000000002", "reported", "event"),
        ({"model": "full", "cost": 0.5, "cache_hit": True}, "0", "cache_hit", "operator"),
        ({"model": "full", "usage": tokens(), "cache_hit": True}, "0", "cache_hit", "operator"),
        ({"model": "full", "usage": tokens(), "cache_hit": False}, "0.005", "priced", "operator"),
        ({"model": "stranger", "usage": tokens(), "cache_hit": True}, "0", "cache_hit", "none"),
        ({"model": "stranger", "usage": tokens()}, "0", "unpriced", "none"),
        ({"model": "stranger"}, "0", "no_usage", "none"),
        ({"model": "full", "usage": {"prompt_tokens": 1.5}}, "0", "unpriced", "operator"),
        ({"model": "full"}, "0", "no_usage", "operator"),
        ({"model": "full", "usage": {"total_tokens": 5}}, "0", "unpriced", "operator"),
        (
            {"model": "full", "usage": {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5}}},
            "0",
            "no_usage",
            "operator",
        ),
    ],
)
def test_statuses(data: dict[str, Any], cost: str, status: str, source: str) -> None:
    """Cost and status if they depend on more than rates."""
    price = text(BOOK, **data).price

    assert (usd(cost), status, source) == (price.cost, price.cost_status, price.price_source)


def test_inconsistent_usage_is_estimated() -> None:
    """Capped counts turn priced into estimated, and don't change partial."""
    capped = {"prompt_tokens": 10, "prompt_tokens_details": {"audio_tokens": 20}}

    assert text(BOOK, model="full", usage=capped).price.cost_status == "estimated"
    assert text(BOOK, model="text-only", usage=capped).price.cost_status == "partial"


@pytest.mark.parametrize(
    ("model", "provider", "stored"),
    [("full", "mine", "mine"), ("full", None, "maker"), ("text-only", None, None), ("stranger", "mine", "mine")],
)
def test_provider(model: str, provider: str | None, stored: str | None) -> None:
    """The event's own provider, else the entry's."""
    assert stored == text(BOOK, model=model, provider=provider, usage=tokens()).price.provider


def test_half_even_at_the_twelfth_place() -> None:
    """Half a last place is rounded to even, once, after everything is summed."""
    tiny = book(
        '[[model]]\nname = "t"\nunit = "token"\nprice = { prompt_text = 0.0000005, completion_text = 0.0000005 }\n'
    )

    def cost(prompt: int, completion: int) -> Decimal:
        return text(tiny, model="t", usage={"prompt_tokens": prompt, "completion_tokens": completion}).price.cost

    assert usd("0E-12") == cost(1, 0)
    assert usd("0.000000000001") == cost(1, 1)
    assert usd("0.000000000002") == cost(3, 0)
    assert usd("0.000000000002") == cost(5, 0)


def test_cost_has_twelve_places() -> None:
    """Every cost is a finite Decimal in the store's scale, also 0."""
    prices = [
        text(model="openai", usage=tokens()).price,
        text(model="stranger").price,
        image(model="flux").price,
        image(model="veo", video_seconds=1).price,
        text(model="x", cost=5).price,
    ]

    assert {-12} == {price.cost.as_tuple().exponent for price in prices}


def test_an_unknown_event_type_has_no_fallback_and_no_missing_fields() -> None:
    """A type from a plug-in is priced by its usage; fields that it doesn't have are not missing."""
    event = ImageGeneration(model="openai", usage={})
    usage = Usage(status="ok", tokens=Tokens(prompt_text=1000))

    assert usd("0.0001") == price_event("audio_generation", event, usage, NOW, SHIPPED).cost
