"""One compiled price: the rates of a model that are in force at some time, ready to multiply with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

import orjson
from birdfeed_schemas.enrichment import CostStatus, PriceMatch, PriceSource
from birdfeed_schemas.events import Event
from birdfeed_schemas.prices import MULTIPLIER_PLACES, RATE_PLACES, Unit, When
from birdfeed_schemas.rows import image_dimensions
from birdfeed_schemas.tables.meters import BY_NAME, PROVISIONED, TOKEN_CLASSES

from birdfeed_worker.pricing.price.money import EXACT, PLACES, plain

#: The ending of a multiplier's key in a receipt: service_tier_multiplier, speed_multiplier, ...
MULTIPLIER: Final = "_multiplier"
#: A receipt's key for the cost that a handler or a provider reported.
REPORTED: Final = "reported"
#: Multipliers of one price at most: service tier, speed and region.
_MOST_MULTIPLIERS: Final = 3
#: Decimal places of a rate with its multipliers at most.
MAX_SCALE: Final = RATE_PLACES + _MOST_MULTIPLIERS * MULTIPLIER_PLACES
#: With this many decimal places, a rate times tokens / 1,000,000 is a whole number of a cost's last decimal places.
MIN_SCALE: Final = PLACES - 6
_ONE: Final = Decimal(1)
#: Statuses from the best to the worst: a row gets the worst of its parts.
_RANK: Final[Mapping[str, int]] = {"priced": 0, "estimated": 1, "partial": 2}

Modifiers = Mapping[str, str]


class TokenPlan(NamedTuple):
    """How one set of token classes is priced.

    The sum of tokens times `scaled` (integers in the order of TOKEN_CLASSES; 0 if a class is absent or has no rate),
    divided by `divisor`, is the cost in units of its last decimal place.
    """

    scaled: tuple[int, ...]
    divisor: int
    rates_json: str
    status: CostStatus


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A model's price.

    Attributes:
        name: The model's name in its book.
        rates: USD per `per` of a class or counter (see meters.METERS), per "image", "megapixel", "video_second",
            "audio_second", "character" or "page".
        multipliers: Service tier, speed or region → multiplier of the cost.
        variants: Conditions of a book, and the entry that replaces this one if they hold; the first that holds is used.
        source: The layer it comes from; `book` is that layer's hash.
        estimated: The rates are the best known ones, but it isn't certain that they apply to this request.
        partial: The model also charges for something that usage doesn't show.
        parents: Whether any class without its own rate is priced at its parent's rate (genai-prices).
        listed: Modifiers that the rates already include.
        is_plain: Whether the price depends on tokens only: no variants, nothing per request.
    """

    name: str
    provider: str | None
    unit: Unit
    rates: Mapping[str, Decimal]
    source: PriceSource
    book: str
    multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    variants: tuple[tuple[When, "Entry"], ...] = ()
    estimated: bool = False
    partial: bool = False
    parents: bool = False
    listed: frozenset[str] = frozenset()
    is_plain: bool = field(init=False, default=False)
    _plans: dict[tuple[bool, ...], TokenPlan] = field(init=False, default_factory=dict, repr=False)
    _tier_plans: dict[tuple[object, ...], TokenPlan] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        is_plain = self.unit == "token" and not self.variants and "requests" not in self.rates
        object.__setattr__(self, "is_plain", is_plain)

    def for_event(self, event: Event) -> "Entry":
        """The variant that applies to the event, else this entry."""
        for when, variant in self.variants:
            if holds(when, event):
                return variant
        return self

    def without_zeros(self) -> "Entry | None":
        """The same without rates of 0, which may not apply to this event; None if nothing is left."""
        rates = {name: rate for name, rate in self.rates.items() if rate}
        variants = tuple(
            (when, kept) for when, variant in self.variants if (kept := variant.without_zeros()) is not None
        )
        return replace(self, rates=rates, variants=variants) if rates else None

    def worse(self, *, estimated: bool = False, partial: bool = False) -> "Entry":
        """The same entry, with a status that is at best estimated or partial."""
        variants = tuple((when, one.worse(estimated=estimated, partial=partial)) for when, one in self.variants)
        return replace(self, estimated=self.estimated or estimated, partial=self.partial or partial, variants=variants)

    def factors(self, modifiers: Modifiers) -> tuple[dict[str, Decimal], bool]:
        """Kind → multiplier, for those that apply; and whether the price is known for all modifiers."""
        found: dict[str, Decimal] = {}
        known = True
        for name in ("service_tier", "speed", "inference_geo"):
            word = modifiers.get(name)
            if word is None or name in self.listed:
                continue
            factor = None if word == PROVISIONED else self.multipliers.get(word)
            if factor is None:
                known = False
            elif factor != 1:
                found[name] = factor
        return found, known

    def status(self, known: bool = True) -> CostStatus:
        """The status of a row in which everything has a rate."""
        if self.partial:
            return "partial"
        return "priced" if known and not self.estimated else "estimated"

    def rate_of(self, name: str) -> tuple[Decimal | None, CostStatus]:
        """The rate of a class or counter (its own or a stand-in), and the best status that a row can have with it."""
        rate = self.rates.get(name)
        if rate is not None:
            return rate, "priced"
        meter = BY_NAME[name]
        status: CostStatus = meter.stand_in
        while rate is None:
            if meter.parent is None or not (self.parents or meter.book):
                return None, status if meter.parent is None and meter.kind == "counter" else "partial"
            meter = BY_NAME[meter.parent]
            rate = self.rates.get(meter.name)
        return rate, status

    def plan(self, present: tuple[bool, ...], modifiers: Modifiers) -> TokenPlan:
        """How tokens of the `present` classes (in the order of TOKEN_CLASSES) are priced; computed once."""
        if not modifiers:
            plan = self._plans.get(present)
            if plan is None:
                plan = self._plans[present] = self._make_plan(present, {}, True)
            return plan
        factors, known = self.factors(modifiers)
        # The key has the factors, not the words: handlers may send any words, and each would be remembered.
        key = (present, known, *factors.items())
        plan = self._tier_plans.get(key)
        if plan is None:
            plan = self._tier_plans[key] = self._make_plan(present, factors, known)
        return plan

    def _make_plan(self, present: tuple[bool, ...], factors: Mapping[str, Decimal], known: bool) -> TokenPlan:
        factor = _ONE
        for one in factors.values():
            factor = EXACT.multiply(factor, one)
        status = self.status(known)
        products: list[Decimal] = []
        rates: dict[str, str] = {}
        for name, is_there in zip(TOKEN_CLASSES, present, strict=True):
            product = Decimal(0)
            if is_there:
                rate, at_best = self.rate_of(name)
                status = worst(status, at_best)
                if rate is not None:
                    rates[name] = plain(rate)
                    product = EXACT.multiply(rate, factor)
            products.append(product)
        if rates:
            rates.update({f"{name}{MULTIPLIER}": plain(one) for name, one in factors.items()})
        scale, scaled = _whole(products)
        return TokenPlan(scaled, 10 ** (scale - MIN_SCALE), as_json(rates), status)

    def counted(
        self, counters: Mapping[str, int | Decimal], modifiers: Modifiers
    ) -> tuple[Fraction, dict[str, str], CostStatus]:
        """The exact cost of the counters in USD; their rates; and the best status that a row can have with them."""
        factors, known = self.factors(modifiers) if modifiers else ({}, True)
        amount = Fraction(0)
        rates: dict[str, str] = {}
        status = self.status(known)
        for name, count in counters.items():
            rate, at_best = self.rate_of(name)
            status = worst(status, at_best)
            if rate is None:
                continue
            rates[name] = plain(rate)
            meter = BY_NAME[name]
            part = Fraction(count) * Fraction(rate) / meter.per
            if meter.discounted:
                for name_of, factor in factors.items():
                    rates[f"{name_of}{MULTIPLIER}"] = plain(factor)
                    part *= Fraction(factor)
            amount += part
        return amount, rates, status


def holds(when: When, event: Event) -> bool:
    """Whether an event meets every condition; has_input_image counts as false if it is not reported."""
    if when.quality is not None and getattr(event, "quality", None) != when.quality:
        return False
    if when.size is not None and (getattr(event, "image_size", None) or "").lower() != when.size.lower():
        return False
    if when.resolution is not None and when.resolution not in resolutions(event):
        return False
    return when.has_input_image is None or when.has_input_image == bool(getattr(event, "has_input_image", False))


def resolutions(event: Event) -> set[str]:
    """The names of an event's resolution: its quality, "720p" for its shorter side, "2k" for its longer side."""
    found = {(getattr(event, "quality", None) or "").lower()}
    width, height = image_dimensions(getattr(event, "image_size", None))
    if width and height:
        longer = max(width, height)
        found |= {f"{min(width, height)}p", f"{1 if longer <= 1_536 else 2 if longer <= 3_072 else 4}k"}
    return found


class Found(NamedTuple):
    """An entry, and which of the model's names it was found by."""

    entry: Entry
    match: PriceMatch


def worst(one: CostStatus, other: CostStatus) -> CostStatus:
    """The worse of two statuses of a priced row."""
    return other if _RANK[other] > _RANK[one] else one


def as_json(rates: Mapping[str, str]) -> str:
    """Rates as JSON for a receipt; "" if there are none."""
    return orjson.dumps(rates).decode() if rates else ""


def _whole(numbers: list[Decimal]) -> tuple[int, tuple[int, ...]]:
    """Scale numbers by 10**MIN_SCALE or 10**MAX_SCALE, so that all are integers; returns the exponent and the integers.

    Rates and multipliers have at most RATE_PLACES and MULTIPLIER_PLACES, so MAX_SCALE is always enough.
    """
    scaled = [number.scaleb(MIN_SCALE, EXACT) for number in numbers]
    if all(number == int(number) for number in scaled):
        return MIN_SCALE, tuple(map(int, scaled))
    return MAX_SCALE, tuple(int(number.scaleb(MAX_SCALE, EXACT)) for number in numbers)
