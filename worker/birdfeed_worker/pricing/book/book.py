"""The price book: load it (errors name line and field), and find a model's price at a given time."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Protocol

import orjson
from birdfeed_schemas.enrichment import PriceMatch, PriceSource
from birdfeed_schemas.prices import ModelPrices, PriceFile, When

from birdfeed_worker.operator_files import read_text
from birdfeed_worker.pricing.book.entry import Entry, Found
from birdfeed_worker.pricing.book.load import ALWAYS, FOR_EVER, PriceBookError, Problem, read
from birdfeed_worker.pricing.price.money import plain

__all__ = ["Books", "Fallback", "PriceBook", "PriceBookError", "Problem", "load", "media_book", "parse"]

#: Characters of a book's hash that rows store.
_HASH_LENGTH: Final = 12
#: Characters of a price book; the shipped one has ten thousand.
MAX_BOOK: Final = 10_000_000


class Fallback(Protocol):
    """A source of prices for models that no book has."""

    version: str

    def find(
        self, name: str, at: datetime, provider: str, modifiers: Mapping[str, str], prompt_tokens: int
    ) -> Found | None:
        """The price of a model for one request, or None if it isn't known."""

    def knows(self, name: str, provider: str) -> bool:
        """Whether it has exactly this model, at any date."""


class PriceBook:
    """The models of one book and their prices; immutable.

    Attributes:
        origin: The file it was read from, for messages.
        source: "operator" or "book" (the shipped one).
        hash: Twelve characters that change with any content, but not with comments or the order of keys.
        models: Name → model, as in the file.
        service_tiers: The multipliers that apply to every model.
    """

    def __init__(self, file: PriceFile, *, origin: str, source: PriceSource) -> None:
        self.origin = origin
        self.source = source
        self.models: Mapping[str, ModelPrices] = {model.name: model for model in file.model}
        self.service_tiers: Mapping[str, Decimal] = file.service_tiers
        self.hash = _hash(file)
        self._undated: dict[str, Found] = {}
        self._dated: dict[str, tuple[tuple[datetime, datetime, Found], ...]] = {}
        compiled = {model.name: tuple(self._compile(file, model)) for model in file.model}
        matches: tuple[PriceMatch, ...] = ("name", "alias", "original_name")
        for match in matches:
            for model in file.model:
                for name in _names(model)[match]:
                    if name not in self._undated and name not in self._dated:
                        self._add(name, match, compiled[model.name])

    def find(self, name: str, at: datetime) -> Found | None:
        """The price in force at a time (aware) of a model, found by its name, alias or original name, in this order."""
        undated = self._undated.get(name)
        if undated is not None:
            return undated
        for since, until, found in self._dated.get(name, ()):
            if since <= at < until:
                return found
        return None

    def always(self, name: str) -> Found | None:
        """The price of a model whose price never changes; None if it has dates, or isn't in the book."""
        return self._undated.get(name)

    def known(self, name: str) -> Found | None:
        """Any price of a model, by any of its names, at any date; None if the book doesn't have the model."""
        dated = self._dated.get(name)
        return self._undated.get(name) if dated is None else dated[0][2]

    def _add(self, name: str, match: PriceMatch, prices: tuple[tuple[datetime, datetime, Entry], ...]) -> None:
        if len(prices) == 1 and prices[0][:2] == (ALWAYS, FOR_EVER):
            self._undated[name] = Found(prices[0][2], match)
        else:
            self._dated[name] = tuple((since, until, Found(entry, match)) for since, until, entry in prices)

    def _compile(self, file: PriceFile, model: ModelPrices) -> Iterator[tuple[datetime, datetime, Entry]]:
        tiers = {**file.service_tiers, **model.service_tiers}

        def entry(rates: Mapping[str, Decimal], variants: tuple[tuple[When, Entry], ...] = ()) -> Entry:
            return Entry(
                name=model.name,
                provider=model.provider,
                unit=model.unit,
                rates=rates,
                source=self.source,
                book=self.hash,
                multipliers=tiers,
                variants=variants,
            )

        for price in model.price:
            variants = tuple((variant.when, entry({**price.given, **variant.given})) for variant in price.variants)
            yield price.since or ALWAYS, price.until or FOR_EVER, entry(price.given, variants)


@dataclass(frozen=True, slots=True)
class Books:
    """Where prices are looked up, in order: books (the operator's, then the shipped one), the fallback, the media book.

    The media book is read when it is first needed.
    """

    layers: tuple[PriceBook, ...]
    fallback: Fallback | None = None
    media: "Callable[[], PriceBook] | None" = None
    #: The choices for names that were seen before; see choose.py.
    choices: dict[tuple[object, ...], object] = field(default_factory=dict, repr=False, compare=False)

    def find(self, name: str, at: datetime) -> Found | None:
        """The price of a model in the first book that has one in force at a time."""
        for book in self.layers:
            found = book.find(name, at)
            if found is not None:
                return found
        return None


def load(path: Path | None = None) -> PriceBook:
    """Read a price book from a file; the shipped one without a path.

    Raises:
        PriceBookError: It can't be read, isn't TOML, or has invalid values; each problem has line and field.
    """
    if path is None:
        shipped = files("birdfeed_schemas") / "data" / "prices.toml"
        return parse(shipped.read_text(encoding="utf-8"), origin="prices.toml", source="book")
    try:
        text = read_text(path, MAX_BOOK, "utf-8-sig")  # editors on Windows may write a BOM
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PriceBookError(str(path), [Problem(1, "", f"can't be read: {reason}")]) from error
    return parse(text, origin=str(path), source="operator")


@cache
def media_book() -> PriceBook:
    """The shipped prices of public image, video, speech and OCR models; read once, when first needed."""
    shipped = files("birdfeed_schemas") / "data" / "media_prices.toml"
    return parse(shipped.read_text(encoding="utf-8"), origin="media_prices.toml", source="media")


def parse(text: str, *, origin: str, source: PriceSource = "operator") -> PriceBook:
    """A price book from its text; raises PriceBookError as `load` does."""
    return PriceBook(read(text, origin), origin=origin, source=source)


def _names(model: ModelPrices) -> dict[PriceMatch, tuple[str, ...]]:
    original = () if model.original_name is None else (model.original_name,)
    return {"name": (model.name,), "alias": model.aliases, "original_name": original}


def _hash(file: PriceFile) -> str:
    """A short hash of a book's content; 2 and 2.0 are the same rate."""

    def plainly(value: object) -> object:
        if isinstance(value, Decimal):
            return plain(value)
        raise TypeError

    content = orjson.dumps(
        file.model_dump(mode="python", by_alias=True, exclude_none=True),
        default=plainly,
        option=orjson.OPT_SORT_KEYS,
    )
    return hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
