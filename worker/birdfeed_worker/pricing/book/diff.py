"""The changes between two price books, as lines for display."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from birdfeed_schemas.prices import DatedPrice, ModelPrices

from birdfeed_worker.pricing.book.book import PriceBook
from birdfeed_worker.pricing.price.money import plain


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: the model, the field, the old value (None: it is new) and the new value (None: it is removed)."""

    model: str
    field: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        what = f"{self.model}: {self.field}" if self.field else self.model
        if self.old is None:
            return f"{what} is new: {self.new}"
        if self.new is None:
            return f"{what} is gone" + (f", was {self.old}" if self.old else "")
        return f"{what} is {self.new}, was {self.old}"


def diff(old: PriceBook, new: PriceBook) -> list[Change]:
    """Every difference that can change a price or its receipt, in the order of the new book, then of the old."""
    changes: list[Change] = []
    for name, model in new.models.items():
        before = old.models.get(name)
        if before is None:
            changes.append(Change(name, "", None, "; ".join(f"{key} {value}" for key, value in _fields(model))))
            continue
        was, now = dict(_fields(before)), dict(_fields(model))
        for field in [*now, *(field for field in was if field not in now)]:
            if was.get(field) != now.get(field):
                changes.append(Change(name, field, was.get(field), now.get(field)))
    changes += [Change(name, "", "", None) for name in old.models if name not in new.models]
    was, now = _multipliers(old.service_tiers), _multipliers(new.service_tiers)
    for tier in sorted(was.keys() | now.keys()):
        if was.get(tier) != now.get(tier):
            changes.append(Change("every model", tier, was.get(tier), now.get(tier)))
    return changes


def names_of(model: ModelPrices) -> tuple[str, ...]:
    """Every name by which a model's price is found."""
    original = () if model.original_name is None else (model.original_name,)
    return tuple(dict.fromkeys((model.name, *model.aliases, *original)))


def _fields(model: ModelPrices) -> Iterator[tuple[str, str]]:
    yield "unit", model.unit
    if model.aliases:
        yield "aliases", ", ".join(sorted(model.aliases))
    if model.original_name is not None:
        yield "original_name", model.original_name
    if model.provider is not None:
        yield "provider", model.provider
    yield from _multipliers(model.service_tiers).items()
    for price in sorted(model.price, key=lambda price: str(price.since or "")):
        dates = dates_of(price)
        for name, rate in price.given.items():
            yield f"{name}{dates}", plain(rate)
        for position, variant in enumerate(price.variants, 1):
            when = ", ".join(f"{key} {value}" for key, value in variant.when.model_dump(exclude_none=True).items())
            for name, rate in variant.given.items():
                yield f"variant {position} ({when}) {name}{dates}", plain(rate)


def dates_of(price: DatedPrice) -> str:
    """ " from ... until ..." (UTC), without an open end; empty for a price that always applies."""
    since = f" from {price.since:%Y-%m-%d %H:%M}" if price.since is not None else ""
    until = f" until {price.until:%Y-%m-%d %H:%M}" if price.until is not None else ""
    return (since + until).replace(" 00:00", "")


def _multipliers(tiers: Mapping[str, Decimal]) -> dict[str, str]:
    return {f"service tier {name}": plain(multiplier) for name, multiplier in tiers.items()}
