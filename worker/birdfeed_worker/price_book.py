"""The price book: loading it with errors that name line and field, and finding a model's price at a time."""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import orjson
from birdfeed_schemas.facts import PriceMatch, PriceSource
from birdfeed_schemas.prices import RATES_OF, DatedPrice, ModelPrices, PriceFile
from pydantic import ValidationError

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.money import plain
from birdfeed_worker.price_entry import Conditions, Entry, Found
from birdfeed_worker.toml_lines import Path as TomlPath
from birdfeed_worker.toml_lines import key_lines, line_of

#: Characters of a book's hash that rows carry.
_HASH_LENGTH: Final = 12
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
_FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong in a book: the line (from 1), the field and a sentence."""

    line: int
    field: str
    message: str


class PriceBookError(ConfigurationError):
    """A price book can't be used; `origin` is its file's name, `problems` everything that is wrong with it."""

    def __init__(self, origin: str, problems: Iterable[Problem]) -> None:
        self.origin = origin
        self.problems = tuple(sorted(problems))
        super().__init__(origin, self.problems)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.origin}:{problem.line}: {problem.field + ': ' if problem.field else ''}{problem.message}"
            for problem in self.problems
        )


class Fallback(Protocol):
    """Prices of text models that no book has."""

    def find(
        self, name: str, at: datetime, provider: str | None, service_tier: str | None, prompt_tokens: int
    ) -> Found | None:
        """The price of a model for one request, or None where it isn't known."""


class PriceBook:
    """The models of one book and their prices; immutable.

    Attributes:
        origin: The file it was read from, for messages.
        source: "operator" or "book" (the shipped one).
        hash: Twelve characters that change with every change of content, and not with comments or order of keys.
        models: The models as they stand in the book, by name.
        service_tiers: The multipliers that hold for every model.
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
        """The price of a model, by its name, else alias, else original name, in force at a time (aware)."""
        undated = self._undated.get(name)
        if undated is not None:
            return undated
        for since, until, found in self._dated.get(name, ()):
            if since <= at < until:
                return found
        return None

    def _add(self, name: str, match: PriceMatch, prices: tuple[tuple[datetime, datetime, Entry], ...]) -> None:
        if len(prices) == 1 and prices[0][:2] == (_ALWAYS, _FOR_EVER):
            self._undated[name] = Found(prices[0][2], match)
        else:
            self._dated[name] = tuple((since, until, Found(entry, match)) for since, until, entry in prices)

    def _compile(self, file: PriceFile, model: ModelPrices) -> Iterator[tuple[datetime, datetime, Entry]]:
        tiers = {**file.service_tiers, **model.service_tiers}

        def entry(rates: Mapping[str, Decimal], variants: tuple[tuple[Conditions, Entry], ...] = ()) -> Entry:
            return Entry(
                name=model.name,
                provider=model.provider,
                unit=model.unit,
                rates=rates,
                source=self.source,
                book=self.hash,
                service_tiers=tiers,
                variants=variants,
            )

        for price in model.price:
            variants = tuple(
                (
                    Conditions(
                        quality=variant.when.quality,
                        size=variant.when.size and variant.when.size.lower(),
                        has_input_image=variant.when.has_input_image,
                    ),
                    entry({**price.given, **variant.given}),
                )
                for variant in price.variants
            )
            yield price.since or _ALWAYS, price.until or _FOR_EVER, entry(price.given, variants)


@dataclass(frozen=True, slots=True)
class Books:
    """Where prices are looked for, in order: books (the operator's, then the shipped one), then the fallback."""

    layers: tuple[PriceBook, ...]
    fallback: Fallback | None = None

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
        PriceBookError: It can't be read, isn't TOML, or something in it can't be: each problem with line and field.
    """
    if path is None:
        shipped = files("birdfeed_schemas") / "data" / "prices.toml"
        return parse(shipped.read_text(encoding="utf-8"), origin="prices.toml", source="book")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PriceBookError(str(path), [Problem(1, "", f"can't be read: {reason}")]) from error
    return parse(text, origin=str(path), source="operator")


def parse(text: str, *, origin: str, source: PriceSource = "operator") -> PriceBook:
    """A price book from its text; raises PriceBookError as load does."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        _, _, place = message.partition("(at line ")
        line = int(place.partition(",")[0]) if place else text.count("\n") + 1
        raise PriceBookError(origin, [Problem(line, "", f"not TOML: {message}")]) from error
    try:
        file = PriceFile.model_validate(data)
    except ValidationError as error:
        found = [(_path(part["loc"], data), _message(part["type"], part["msg"])) for part in error.errors()]
        raise PriceBookError(origin, _located(text, found, data)) from error
    problems = list(_contradictions(file))
    if problems:
        raise PriceBookError(origin, _located(text, problems, data))
    return PriceBook(file, origin=origin, source=source)


def _names(model: ModelPrices) -> dict[PriceMatch, tuple[str, ...]]:
    original = () if model.original_name is None else (model.original_name,)
    return {"name": (model.name,), "alias": model.aliases, "original_name": original}


def _contradictions(file: PriceFile) -> Iterator[tuple[TomlPath, str]]:
    """What no single field shows: names used twice, rates of another unit, dates that overlap."""
    names: dict[str, str] = {}
    originals: dict[str, str] = {}
    for position, model in enumerate(file.model):
        at: TomlPath = ("model", position)
        if model.name in names:
            yield (*at, "name"), f"the name {model.name!r} is taken by {names[model.name]}"
        names.setdefault(model.name, f"the model {model.name!r}")
    for position, model in enumerate(file.model):
        at = ("model", position)
        for which, alias in enumerate(model.aliases):
            if alias in names:
                yield (*at, "aliases", which), f"the alias {alias!r} is taken by {names[alias]}"
            names.setdefault(alias, f"an alias of {model.name!r}")
        if model.original_name is not None:
            if model.original_name in originals:
                other = originals[model.original_name]
                yield (*at, "original_name"), f"the original name {model.original_name!r} is taken by {other!r}"
            originals.setdefault(model.original_name, model.name)
        yield from _foreign_rates(at, model)
        yield from _overlaps(at, model.price)


def _foreign_rates(at: TomlPath, model: ModelPrices) -> Iterator[tuple[TomlPath, str]]:
    allowed = RATES_OF[model.unit]
    for which, price in enumerate(model.price):
        here: TomlPath = (*at, "price", which)
        tables = [(here, price.given)]
        tables += [((*here, "variants", number), variant.given) for number, variant in enumerate(price.variants)]
        for path, given in tables:
            for name in given:
                if name not in allowed:
                    yield (
                        (*path, name),
                        f"the model's unit is {model.unit!r}, so it can't have a rate {name!r} too: one unit a model",
                    )


def _overlaps(at: TomlPath, prices: tuple[DatedPrice, ...]) -> Iterator[tuple[TomlPath, str]]:
    spans = sorted((price.since or _ALWAYS, price.until or _FOR_EVER, which) for which, price in enumerate(prices))
    for (_, until, first), (since, _, second) in pairwise(spans):
        if since < until:
            yield (*at, "price", second), f"overlaps in time with price {first + 1} of the same model"


def _path(loc: tuple[int | str, ...], data: Mapping[str, object]) -> TomlPath:
    """Where pydantic found a problem, as keys and positions of the TOML."""
    path: TomlPath = loc
    if path and path[-1] == "[key]":
        path = path[:-1]
    # A lone price table was made a list of one.
    if len(path) > 3 and path[2] == "price" and path[3] == 0:
        model = _at(data, path[:2])
        if isinstance(model, Mapping) and isinstance(model.get("price"), Mapping):
            path = (*path[:3], *path[4:])
    return path


def _at(data: object, path: TomlPath) -> object:
    for key in path:
        if isinstance(data, Mapping) and isinstance(key, str):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return None
    return data


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "missing":
        return "is required"
    if kind in ("too_short", "string_too_short"):
        return "is empty"
    return message.removeprefix("Value error, ")


def _located(text: str, problems: Iterable[tuple[TomlPath, str]], data: Mapping[str, object]) -> Iterator[Problem]:
    lines = key_lines(text)
    for path, message in problems:
        path = _path(path, data)
        model = _at(data, path[:2]) if path[:1] == ("model",) else None
        name = model.get("name") if isinstance(model, Mapping) else None
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[2:]).lstrip(".")
        if not isinstance(name, str) or not name:
            field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        else:
            field = f"{name}: {field}" if field else name
        yield Problem(line_of(lines, path), field, message)


def _hash(file: PriceFile) -> str:
    """A short hash of what a book says; 2 and 2.0 are the same rate."""

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
