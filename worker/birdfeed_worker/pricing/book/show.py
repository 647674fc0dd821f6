"""Everything that the books know about a model: each layer's prices, and which one is used. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from birdfeed_schemas.enrichment import PriceMatch
from birdfeed_schemas.prices import DatedPrice, ModelPrices

from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.diff import names_of
from birdfeed_worker.pricing.book.entry import Entry
from birdfeed_worker.pricing.price.money import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one layer has for a model at a given time.

    Attributes:
        source: "operator", "book" or "genai-prices"; `origin` is its file or package, `book` its hash or version.
        model: The model, as in the book; None for the fallback, which has only `entry`.
        match: By which of its names it was found.
        entry: The price in force; None if the model has none at that time.
        used: Whether this layer's price is used.
    """

    source: str
    origin: str
    book: str
    model: ModelPrices | None
    match: PriceMatch
    entry: Entry | None
    used: bool


def layers_of(books: Books, name: str, at: datetime) -> list[Layer]:
    """The layers that know the name, in the order of the look-up; at most one of them is `used`."""
    layers: list[Layer] = []
    used = False
    for book in books.layers:
        known, found = book.known(name), book.find(name, at)
        if known is None:
            continue
        layers.append(
            Layer(
                source=book.source,
                origin=book.origin,
                book=book.hash,
                model=book.models[known.entry.name],
                match=known.match,
                entry=None if found is None else found.entry,
                used=found is not None and not used,
            )
        )
        used = used or found is not None
    found = None if books.fallback is None else books.fallback.find(name, at, "", {}, 0)
    if found is not None:
        layers.append(
            Layer(
                source=found.entry.source,
                origin="text models only",
                book=found.entry.book,
                model=None,
                match=found.match,
                entry=found.entry,
                used=not used,
            )
        )
    return layers


def names(books: Books) -> Iterator[str]:
    """Every name in the books, for suggestions."""
    for book in books.layers:
        for model in book.models.values():
            yield from names_of(model)


def describe(layer: Layer, at: datetime) -> dict[str, Any]:
    """A layer for JSON output: amounts are decimal text in USD per the model's unit; times are ISO 8601, UTC."""
    model, entry = layer.model, layer.entry
    said: dict[str, Any] = {
        "source": layer.source,
        "origin": layer.origin,
        "book": layer.book,
        "model": model.name if model is not None else entry.name if entry is not None else "",
        "match": layer.match,
        "used": layer.used,
        "rates": None if entry is None else {key: plain(rate) for key, rate in entry.rates.items()},
    }
    if model is None:
        assert entry is not None
        return {**said, "unit": entry.unit, "provider": entry.provider}
    tiers = model.service_tiers if entry is None else entry.multipliers
    return {
        **said,
        "unit": model.unit,
        "provider": model.provider,
        "aliases": list(model.aliases),
        "original_name": model.original_name,
        "service_tiers": {tier: plain(multiplier) for tier, multiplier in tiers.items()},
        "prices": [_price(price, at) for price in model.price],
    }


def in_force(price: DatedPrice, at: datetime) -> bool:
    """Whether a dated price applies at a time."""
    return (price.since is None or price.since <= at) and (price.until is None or at < price.until)


def _price(price: DatedPrice, at: datetime) -> dict[str, Any]:
    return {
        "from": None if price.since is None else price.since.isoformat(),
        "until": None if price.until is None else price.until.isoformat(),
        "in_force": in_force(price, at),
        "rates": {key: plain(rate) for key, rate in price.given.items()},
        "variants": [
            {
                "when": variant.when.model_dump(exclude_none=True),
                "rates": {key: plain(rate) for key, rate in variant.given.items()},
            }
            for variant in price.variants
        ],
    }
