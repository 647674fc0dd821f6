"""The receipt: a stored row gives its cost again to the last digit, and can explain its arithmetic."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.wire.envelope import Envelope
from birdfeed_worker.pricing.price.receipt import explain, recompute
from birdfeed_worker.pricing.price.record import PricedRecord
from birdfeed_worker.tiers.choose import ANONYMOUS

from tests.support.pricing.books import RECEIPT_BOOK
from tests.support.pricing.cases import NOW, book, image, text, usd
from tests.support.rows import filled, sent

BOOK = book(RECEIPT_BOOK)


def row_of(event_type: str, priced: PricedRecord) -> dict[str, Any]:
    """The row as it is stored, through JSON."""
    enriched = Enriched(
        envelope=Envelope(event_id="e", event_type=event_type, occurred_at=NOW, data={}),
        event=priced.event,
        usage=priced.usage,
        price=priced.price,
        tier=ANONYMOUS,
        enriched_at=NOW,
        extra={},
    )
    return filled(sent(enriched))


def some_count(source: random.Random) -> int:
    return source.choice([0, 1, source.randrange(10_000), source.randrange(2**32), source.randrange(2**62)])


def some_seconds(source: random.Random) -> object:
    return source.choice(
        [None, 0, source.random() * 1e9, 1 / 3, "5.0416666666666666666667", source.randrange(1000), 1e-300, "1e-999999"]
    )


def some_event(source: random.Random) -> tuple[str, PricedRecord]:
    common = {
        "service_tier": source.choice([None, None, "batch", "odd", "nobody-knows"]),
        "cost": source.choice([None] * 9 + ["0.00000000000051", 123.456]),
        "cache_hit": source.random() < 0.05,
        "status": source.choice(["success", "error", None]),
        "usage": {
            "prompt_tokens": some_count(source),
            "completion_tokens": some_count(source),
            "prompt_tokens_details": {"cached_tokens": some_count(source), "audio_tokens": some_count(source)},
            "completion_tokens_details": {"reasoning_tokens": some_count(source), "image_tokens": some_count(source)},
        },
    }
    if source.random() < 0.5:
        return "text_generation", text(BOOK, model=source.choice(["tokens", "tokens", "picture", "x"]), **common)
    size = source.choice([None, "1024x1024", "x", "4000000000x4000000000", "1x1"])
    return "image_generation", image(
        BOOK,
        model=source.choice(["tokens", "picture", "pixels", "film"]),
        num_images=source.choice([None, 0, 1, 7, 2**40]),
        image_size=size,
        quality=source.choice([None, "hd"]),
        video_seconds=some_seconds(source),
        audio_seconds=some_seconds(source),
        **common,
    )


@pytest.mark.heavy
def test_recompute_from_the_row() -> None:
    """6,000 random rows: each gives its own cost_exact from its receipt alone."""
    source = random.Random(5)
    statuses = set()
    for _ in range(6_000):
        event_type, priced = some_event(source)
        row = row_of(event_type, priced)
        statuses.add(row["cost_status"])

        assert Decimal(row["cost_exact"]) == recompute(row) == priced.price.cost, row

    assert {"priced", "estimated", "partial", "unpriced", "no_usage", "cache_hit", "reported"} == statuses


def test_recompute_reads_counts_as_text() -> None:
    """A store may answer with 64-bit numbers as text."""
    row = row_of("text_generation", text(BOOK, model="tokens", usage={"prompt_tokens": 2**62}))
    row["tokens"] = {name: str(count) for name, count in row["tokens"].items()}

    assert Decimal(row["cost_exact"]) == recompute(row)


def test_recompute_needs_what_the_receipt_prices() -> None:
    """A row without a field that its receipt prices is an error, not a cost of 0."""
    row = row_of("image_generation", image(BOOK, model="picture", quality="hd"))
    del row["num_images"]

    with pytest.raises(KeyError, match="num_images"):
        recompute(row)


def test_the_receipt_names_the_book() -> None:
    """Rows carry the model's entry, the book's hash and the layer."""
    row = row_of("text_generation", text(BOOK, model="tokens", usage={"prompt_tokens": 3}, service_tier="batch"))

    assert ("tokens", BOOK.layers[0].hash, "operator", "requested") == (
        row["price_model"],
        row["price_book"],
        row["price_source"],
        row["price_match"],
    )
    assert json.loads(row["price_rates"]) == {"prompt_text": "0.123456789012", "service_tier_multiplier": "0.5"}


def test_explain_tokens() -> None:
    """A line for each class, what is left out, the tier, the sum."""
    priced = text(
        BOOK,
        model="tokens",
        service_tier="batch",
        usage={
            "prompt_tokens": 1_000_000,
            "completion_tokens": 10,
            "completion_tokens_details": {"audio_tokens": 4},
            "prompt_tokens_details": {"audio_tokens": 500_000},
        },
    )

    assert [
        "model 'tokens'",
        f"price of 'tokens', found by the model asked for; book {BOOK.layers[0].hash} (operator)",
        "usage ok: 1,000,000 tokens in, 10 out",
        "prompt_text: 500,000 / 1,000,000 * 0.123456789012 = 0.061728394506",
        "prompt_audio: 500,000 / 1,000,000 * 40 = 20",
        "completion_text: 6 / 1,000,000 * 99999.99 = 0.59999994",
        "completion_audio: no rate, left out",
        "service tier 'batch': times 0.5",
        "cost: 10.330864167253 USD, partial",
    ] == explain(priced.price, priced.usage, priced.event)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ({"model": "picture", "num_images": 3, "quality": "hd"}, ["image: 3 * 0.12 = 0.36", "cost: 0.36 USD, priced"]),
        (
            {"model": "pixels", "image_size": "1000x500"},
            ["megapixel: 1 * 1,000 * 500 / 1,000,000 * 0.0031 = 0.00155", "cost: 0.00155 USD, priced"],
        ),
        ({"model": "film", "audio_seconds": 1.5}, ["audio_second: 1.5 * 0.02 = 0.03", "cost: 0.03 USD, priced"]),
        ({"model": "x"}, ["usage missing: 0 tokens in, 0 out", "cost: 0 USD, unpriced"]),
        ({"model": "x", "cost": 2}, ["reported by the handler: 2", "cost: 2 USD, reported"]),
        ({"model": "picture", "cache_hit": True}, ["usage missing: 0 tokens in, 0 out", "cost: 0 USD, cache_hit"]),
    ],
)
def test_explain_others(data: dict[str, Any], lines: list[str]) -> None:
    """The other units, and rows without a price."""
    priced = image(BOOK, **data)

    assert lines == explain(priced.price, priced.usage, priced.event)[-2:]


def test_explain_seconds_left_out() -> None:
    """Sound without a price is named."""
    silent = book('[[model]]\nname = "f"\noriginal_name = "g"\nunit = "second"\nprice = { video_second = 1 }\n')
    priced = image(silent, model="e", model_used="g", video_seconds=1, audio_seconds=1)
    lines = explain(priced.price, priced.usage, priced.event)

    assert lines[0] == "model 'e', answered by 'g'"
    assert lines[-2] == "audio_second: no rate, left out"
    assert usd("1") == priced.price.cost
