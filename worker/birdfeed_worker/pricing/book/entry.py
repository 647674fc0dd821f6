"""One price, compiled: the rates of a model in force at some time, ready to multiply with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

import orjson
from birdfeed_schemas.enrichment import CostStatus, PriceMatch, PriceSource
from birdfeed_schemas.events import Event
from birdfeed_schemas.prices import MULTIPLIER_PLACES, RATE_PLACES, TOKEN_CLASSES, Unit

from birdfeed_worker.pricing.price.money import EXACT, PLACES, plain

#: The key under which a receipt keeps the service tier's multiplier, where it isn't 1.
MULTIPLIER: Final = "service_tier_multiplier"
#: The key under which it keeps the cost a handler reported.
REPORTED: Final = "reported"
#: Most decimal places of a rate with its multiplier.
MAX_SCALE: Final = RATE_PLACES + MULTIPLIER_PLACES
#: Rates of so many places, times tokens / 1,000,000, come out in whole last places of a cost.
MIN_SCALE: Final = PLACES - 6
_ONE: Final = Decimal(1)

#: What is priced in place of a class without a rate of its own, and whether that makes the row "estimated".
_STAND_INS: Final[Mapping[str, tuple[str, bool]]] = {
    "prompt_cached": ("prompt_text", True),
    "prompt_cache_write": ("prompt_text", True),
    "completion_reasoning": ("completion_text", False),
}


class TokenPlan(NamedTuple):
    """How one set of token classes is priced.

    The sum of tokens times `scaled` (whole numbers in the order of TOKEN_CLASSES; 0 where a class is absent
    or has no rate), divided by `divisor`, is the cost in units of its last place.
    """

    scaled: tuple[int, ...]
    divisor: int
    rates_json: str
    status: CostStatus


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """When a variant holds. `size` is lower case."""

    quality: str | None = None
    size: str | None = None
    has_input_image: bool | None = None

    def hold(self, event: Event) -> bool:
        """Whether the event meets each condition there is; has_input_image counts as false where not reported."""
        if self.quality is not None and getattr(event, "quality", None) != self.quality:
            return False
        if self.size is not None and (getattr(event, "image_size", None) or "").lower() != self.size:
            return False
        return self.has_input_image is None or self.has_input_image == bool(getattr(event, "has_input_image", False))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A model's price.

    Attributes:
        name: The model's name in its book.
        rates: USD per 1,000,000 tokens by class, per "image", "megapixel", "video_second" or "audio_second".
        service_tiers: Service tier → multiplier of the cost.
        variants: Conditions and the entry that replaces this one where they hold; the first that do.
        source: The layer it comes from, and `book` that layer's hash.
        estimated: The rates are the best known for this request, not certainly its own.
        partial: The model also costs something that usage doesn't tell.
    """

    name: str
    provider: str | None
    unit: Unit
    rates: Mapping[str, Decimal]
    source: PriceSource
    book: str
    service_tiers: Mapping[str, Decimal] = field(default_factory=dict)
    variants: tuple[tuple[Conditions, "Entry"], ...] = ()
    estimated: bool = False
    partial: bool = False
    _plans: dict[tuple[bool, ...], TokenPlan] = field(default_factory=dict, repr=False)
    _tier_plans: dict[tuple[tuple[bool, ...], str], TokenPlan] = field(default_factory=dict, repr=False)

    def for_event(self, event: Event) -> "Entry":
        """The variant that holds for the event, else this entry."""
        for conditions, variant in self.variants:
            if conditions.hold(event):
                return variant
        return self

    def multiplier(self, service_tier: str | None) -> Decimal | None:
        """What a service tier multiplies the cost with: 1 where there is none, None where the book doesn't know it."""
        if not service_tier:
            return _ONE
        return self.service_tiers.get(service_tier.strip().lower())

    def status(self, multiplier: Decimal | None) -> CostStatus:
        """The status of a row whose every part has a rate."""
        if self.partial:
            return "partial"
        return "estimated" if self.estimated or multiplier is None else "priced"

    def plan(self, present: tuple[bool, ...], service_tier: str | None) -> TokenPlan:
        """How tokens of the classes that are `present` (in the order of TOKEN_CLASSES) are priced; made once."""
        if not service_tier:
            plan = self._plans.get(present)
            if plan is None:
                plan = self._plans[present] = self._make_plan(present, _ONE)
            return plan
        multiplier = self.multiplier(service_tier)
        # Not by the tier's own name: handlers may send any, and each would be remembered.
        key = (present, "unknown" if multiplier is None else plain(multiplier))
        plan = self._tier_plans.get(key)
        if plan is None:
            plan = self._tier_plans[key] = self._make_plan(present, multiplier)
        return plan

    def _make_plan(self, present: tuple[bool, ...], multiplier: Decimal | None) -> TokenPlan:
        factor = _ONE if multiplier is None else multiplier
        status = self.status(multiplier)
        products: list[Decimal] = []
        rates: dict[str, str] = {}
        for name, is_there in zip(TOKEN_CLASSES, present, strict=True):
            rate = self.rates.get(name)
            if is_there and rate is None and name in _STAND_INS:
                stand_in, is_estimate = _STAND_INS[name]
                rate = self.rates.get(stand_in)
                if is_estimate and status == "priced":
                    status = "estimated"
            if is_there and rate is None:
                status = "partial"
            if is_there and rate is not None:
                rates[name] = plain(rate)
                products.append(EXACT.multiply(rate, factor))
            else:
                products.append(Decimal(0))
        if rates and factor != 1:
            rates[MULTIPLIER] = plain(factor)
        scale, scaled = _whole(products)
        return TokenPlan(scaled, 10 ** (scale - MIN_SCALE), as_json(rates), status)


class Found(NamedTuple):
    """An entry, and by which of a model's names it was found."""

    entry: Entry
    match: PriceMatch


def as_json(rates: Mapping[str, str]) -> str:
    """Rates as a receipt keeps them; nothing where there are none."""
    return orjson.dumps(rates).decode() if rates else ""


def _whole(numbers: list[Decimal]) -> tuple[int, tuple[int, ...]]:
    """Numbers times the power of ten, of two, that makes all of them whole: its exponent, and they.

    Rates and multipliers have at most RATE_PLACES and MULTIPLIER_PLACES, so MAX_SCALE always does.
    """
    scaled = [number.scaleb(MIN_SCALE, EXACT) for number in numbers]
    if all(number == int(number) for number in scaled):
        return MIN_SCALE, tuple(map(int, scaled))
    return MAX_SCALE, tuple(int(number.scaleb(MAX_SCALE, EXACT)) for number in numbers)
