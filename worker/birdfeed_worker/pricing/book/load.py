"""Read a price book's text, and report all its problems at once, each with line and field."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final

from birdfeed_schemas.prices import RATES_OF, DatedPrice, ModelPrices, PriceFile
from birdfeed_schemas.safety.validation import problems as problems_of
from pydantic import ValidationError

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.pricing.book.toml_lines import Path as TomlPath
from birdfeed_worker.pricing.book.toml_lines import key_lines, line_of

#: When a price without `from` begins, and one without `until` ends.
ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)

#: pydantic's error type → plainer words.
_SAID: Final = {
    "extra_forbidden": "there is no such field",
    "missing": "is required",
    "too_short": "is empty",
    "string_too_short": "is empty",
}

#: Characters of a problem that are shown: a value in it may have thousands of digits.
MAX_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A problem in a book: the line (from 1), the field and a sentence."""

    line: int
    field: str
    message: str


class PriceBookError(ConfigurationError):
    """A price book can't be used; `origin` is its file's name, `problems` all that is wrong with it."""

    def __init__(self, origin: str, problems: Iterable[Problem]) -> None:
        self.origin = origin
        self.problems = tuple(sorted(problems))
        super().__init__(origin, self.problems)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.origin}:{problem.line}: {problem.field + ': ' if problem.field else ''}"
            f"{problem.message[:MAX_MESSAGE]}"
            for problem in self.problems
        )


def read(text: str, origin: str) -> PriceFile:
    """A price book's content from its text; `origin` is its file's name, for messages.

    Raises:
        PriceBookError: It isn't TOML, or has invalid values.
    """
    try:
        return _read(text, origin)
    except RecursionError:
        message = "it is nested too deep"
    except (ArithmeticError, OverflowError, ValueError):
        message = "a number or a date in it is out of range"
    raise PriceBookError(origin, [Problem(1, "", message)])


def _read(text: str, origin: str) -> PriceFile:
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
        found = [(_path(place, data), _SAID.get(kind, message)) for kind, place, message in problems_of(error)]
        found += _contradictions(_sound_models(data))
        raise PriceBookError(origin, _located(text, found, data)) from error
    problems = list(_contradictions(enumerate(file.model)))
    if problems:
        raise PriceBookError(origin, _located(text, problems, data))
    return file


def _sound_models(data: Mapping[str, object]) -> Iterator[tuple[int, ModelPrices]]:
    """The valid models of a book in which others are invalid, with their positions."""
    models = data.get("model")
    for position, model in enumerate(models if isinstance(models, list) else ()):
        with suppress(ValidationError):
            yield position, ModelPrices.model_validate(model)


def _contradictions(placed: Iterable[tuple[int, ModelPrices]]) -> Iterator[tuple[TomlPath, str]]:
    """Problems across fields: names used twice, rates of another unit, overlapping dates."""
    models = list(placed)
    names: dict[str, str] = {}
    originals: dict[str, str] = {}
    for position, model in models:
        at: TomlPath = ("model", position)
        if model.name in names:
            yield (*at, "name"), f"the name {model.name!r} is taken by {names[model.name]}"
        names.setdefault(model.name, f"the model {model.name!r}")
    for position, model in models:
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
                        f"the model's unit is {model.unit!r}, so it can't have the rate {name!r}: a model has one unit",
                    )


def _overlaps(at: TomlPath, prices: tuple[DatedPrice, ...]) -> Iterator[tuple[TomlPath, str]]:
    spans = sorted((price.since or ALWAYS, price.until or FOR_EVER, which) for which, price in enumerate(prices))
    for (_, until, first), (since, _, second) in pairwise(spans):
        if since < until:
            yield (*at, "price", second), f"overlaps in time with price {first + 1} of the same model"


def _path(loc: tuple[int | str, ...], data: Mapping[str, object]) -> TomlPath:
    """The location of a problem of pydantic's, as keys and positions in the TOML."""
    path: TomlPath = loc
    if path and path[-1] == "[key]":
        path = path[:-1]
    # A single price table was turned into a list of one.
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
