"""What an operator's book changes relative to the shipped one, and what in it may surprise. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from birdfeed_schemas.prices import ModelPrices

from birdfeed_worker.pricing.book.book import PriceBook
from birdfeed_worker.pricing.book.diff import Change, diff, names_of
from birdfeed_worker.pricing.book.load import ALWAYS, FOR_EVER

#: What providers return if no special tier was used. A row whose tier has no multiplier is "estimated".
_PLAIN_TIERS: Final = ("default", "standard")


@dataclass(frozen=True, slots=True)
class Overlay:
    """The effect of an operator's book on another book.

    Attributes:
        changes: What changes, model by model; models that only the other book has stay as they are.
        taken: Name → (model of the other book that it meant, model that it means now).
        kept: How many models of the other book stay in use.
        notes: What is valid but may surprise, one sentence each.
    """

    changes: list[Change]
    taken: dict[str, tuple[str, str]]
    kept: int
    notes: list[str]


def overlay(beneath: PriceBook, book: PriceBook) -> Overlay:
    """What changes when `book` takes precedence over `beneath`."""
    taken = {}
    for model in book.models.values():
        for name in names_of(model):
            before = beneath.known(name)
            if before is not None and before.entry.name != model.name:
                taken[name] = (before.entry.name, model.name)
    return Overlay(
        changes=[change for change in diff(beneath, book) if change.model in book.models],
        taken=taken,
        kept=sum(book.known(name) is None for name in beneath.models),
        notes=list(_notes(book)),
    )


def _notes(book: PriceBook) -> Iterator[str]:
    for model in book.models.values():
        yield from _gaps(model)
    lacking = [
        tier
        for tier in _PLAIN_TIERS
        if any(tier not in {**book.service_tiers, **model.service_tiers} for model in book.models.values())
    ]
    if lacking:
        tiers = ", ".join(f"{tier} = 1" for tier in lacking)
        yield (
            f"rows whose provider names the service tier {' or '.join(lacking)} will be 'estimated': "
            f"the shipped book's multipliers don't apply; add [service_tiers] with {tiers}"
        )


def _gaps(model: ModelPrices) -> Iterator[str]:
    spans = sorted((price.since or ALWAYS, price.until or FOR_EVER) for price in model.price)
    for (_, until), (since, _) in pairwise(spans):
        if until < since:
            yield f"{model.name}: has no price from {until:%Y-%m-%d %H:%M} until {since:%Y-%m-%d %H:%M} UTC"
    if spans[-1][1] != FOR_EVER:
        yield f"{model.name}: has no price from {spans[-1][1]:%Y-%m-%d %H:%M} UTC on"
