"""Shared by the tests of prices: the cases and facts, the shipped book, and an event priced by it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from birdfeed_schemas.enrichment import Usage
from birdfeed_worker.pricing.book.book import Books, load, media_book, parse
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.price.record import PricedRecord, price_record
from birdfeed_worker.pricing.usage.normalise import normalise_usage

from tests.support.repository import DATA

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHIPPED = Books((load(),))
#: The default books: the shipped one, the fallback, the media book.
DEFAULT = Books((load(),), GenaiPrices(), media_book)


def read_json(name: str) -> Any:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def book(text: str) -> Books:
    """A book of one layer, from TOML text."""
    return Books((parse(text, origin="test.toml"),))


def text(books: Books = SHIPPED, **data: Any) -> PricedRecord:
    """A text_generation event, priced with the book."""
    return price_record({"event_type": "text_generation", "event_data": data}, books, NOW)


def image(books: Books = SHIPPED, **data: Any) -> PricedRecord:
    """An image_generation event, priced with the book."""
    return price_record({"event_type": "image_generation", "event_data": data}, books, NOW)


def nonzero(usage: Usage) -> dict[str, int]:
    """The classes of a usage that are not 0."""
    return {name: count for name, count in usage.tokens._asdict().items() if count}


def counted(raw: object) -> tuple[str, dict[str, int]]:
    """The status and the non-zero classes of a raw usage."""
    usage = normalise_usage(raw)
    return usage.status, nonzero(usage)


def usd(amount: str) -> Decimal:
    return Decimal(amount)
