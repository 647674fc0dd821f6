"""Prices of models that no book has, from the genai-prices package; only if it knows exactly that model.

The package's own calc_price is not used, because it accepts names that merely contain a model's name, and ignores
unknown service tiers. Here:

- a name must be the model's, or that with a date, a version or a region: `gpt-5-nano-2025-08-07`, not `gpt-5-nano-max`;
- a class without a rate is priced at its parent's rate (see the meter table), and makes the row "estimated";
- a service tier that it doesn't know, or whose rates it knows only in part, makes the row "estimated"; so do two
  modifiers that it doesn't list together, an unknown provider, or a provider that it doesn't list the model for.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from birdfeed_schemas.enrichment import NOTHING
from birdfeed_schemas.tables.meters import METERS
from birdfeed_schemas.tables.providers import GEO_MULTIPLIERS, PRICED_AS, family_of

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.pricing.book.entry import Entry, Found
from birdfeed_worker.pricing.price.money import EXACT, to_cost

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider, TieredPrices

#: Service tiers that mean the standard price; and the package's words for the others, the first it has is used.
_STANDARD: Final = frozenset({"default", "standard"})
_CONTEXTS: Final[Mapping[tuple[str, str], tuple[tuple[str, str], ...]]] = {
    ("service_tier", "batch"): (("processing", "batch"), ("service_tier", "batch")),
    ("service_tier", "flex"): (("service_tier", "flex"), ("processing", "flex")),
    ("service_tier", "priority"): (("service_tier", "priority"),),
    ("service_tier", "fast"): (("service_tier", "fast"), ("speed", "fast")),
    ("speed", "fast"): (("speed", "fast"), ("service_tier", "fast")),
}
#: What may come before a model's name (a region, its maker, a path) and after it (a date, a version).
_BEFORE: Final = r"(?:publishers/[a-z]+/models/|models/)?(?:(?:us|eu|ap|apac|au|jp|ca|us-gov)\.)?(?:[a-z]+\.)?"
_AFTER: Final = r"(?:[-@]?20\d{6}|[-@]20\d\d-\d\d-\d\d|-\d\d-\d\d|-\d{3}|[-@](?:latest|default))?(?:-v\d+)?(?::\d+)?"
#: Look-ups and prices remembered; names come from handlers, so there must be a bound.
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """A model of the package.

    `certain`: it is listed for the event's provider; `thresholds`: prompt sizes in tokens above which rates change.
    """

    model: "ModelInfo"
    provider: "Provider"
    is_name: bool
    certain: bool
    thresholds: tuple[int, ...]
    by_hour: bool


class GenaiPrices:
    """The fallback: prices from the genai-prices package, which is imported when first needed.

    Raises:
        ConfigurationError: The package isn't installed.
    """

    def __init__(self) -> None:
        try:
            self.version = f"genai-prices {version('genai-prices')}"
        except PackageNotFoundError as error:
            raise ConfigurationError(
                "BIRDFEED_PRICE_FALLBACK needs the package genai-prices: install birdfeed[worker], or set it to false"
            ) from error
        self._known_as = lru_cache(_MAX_REMEMBERED)(self._look_up)
        self._found: dict[tuple[object, ...], Found | None] = {}

    def find(
        self, name: str, at: datetime, provider: str, modifiers: Mapping[str, str], prompt_tokens: int
    ) -> Found | None:
        """The price of a model for one request; see book.Fallback. `provider` is a family, or ""."""
        known = self._known_as(name, provider)
        if known is None:
            return None
        if known.by_hour:
            return _found(self.version, known, at, modifiers, prompt_tokens)
        # Prices change at midnight UTC, and with the prompt's size at thresholds.
        words = tuple(sorted(modifiers.items())) if modifiers else ()
        case = (name, provider, at.date(), words, bisect_left(known.thresholds, prompt_tokens))
        if case not in self._found:
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            self._found[case] = _found(self.version, known, at, modifiers, prompt_tokens)
        return self._found.get(case)

    def knows(self, name: str, provider: str) -> bool:
        """Whether it has exactly this model, at any date."""
        return self._known_as(name, provider) is not None

    @cached_property
    def _snapshot(self) -> "DataSnapshot":
        from genai_prices.data_snapshot import get_snapshot

        return get_snapshot()

    @cached_property
    def _by_family(self) -> Mapping[str, "Provider"]:
        """Family → the package's provider."""
        found: dict[str, Provider] = {}
        for one in self._snapshot.providers:
            found.setdefault(family_of(one.id), one)
        return found

    def _look_up(self, name: str, provider: str) -> _Known | None:
        listed = self._by_family.get(PRICED_AS.get(provider, provider)) if provider else None
        known = _in_provider(self._snapshot, listed, name, certain=True) if listed is not None else None
        if known is not None:
            return known
        for maker in self._snapshot.providers:
            if maker.model_match is not None and maker.model_match.is_match(name.lower()):
                return _in_provider(self._snapshot, maker, name, certain=not provider)
        return None


def _in_provider(snapshot: "DataSnapshot", provider: "Provider", name: str, *, certain: bool) -> _Known | None:
    from genai_prices.types import ModelPrice, TieredPrices, TimeOfDateConstraint

    model = provider.find_model(name, all_providers=snapshot.providers)
    if model is None or not _is_named(name, model):
        return None
    conditional = [] if isinstance(model.prices, ModelPrice) else model.prices
    prices = [model.prices] if isinstance(model.prices, ModelPrice) else [one.prices for one in model.prices]
    prices += [variant.prices for variant in model.price_variants or ()]
    tiered = (rate for one in prices for rate in one.__dict__.values() if isinstance(rate, TieredPrices))
    return _Known(
        model=model,
        provider=provider,
        is_name=name == model.id,
        certain=certain,
        thresholds=tuple(sorted({tier.start for rate in tiered for tier in rate.tiers})),
        by_hour=any(isinstance(one.constraint, TimeOfDateConstraint) for one in conditional),
    )


def _is_named(name: str, model: "ModelInfo") -> bool:
    """Whether a name is exactly a model's, as spelt or in lower case, possibly with a date, a version or a region."""
    for literal, anywhere in (*_literals(model.match), (model.id, True)):
        if name in (literal, literal.lower()) or (literal.startswith("ft:") and name.startswith(literal)):
            return True
        if anywhere:
            stem = re.escape(literal.lower().rstrip("-@"))
            if re.fullmatch(f"{_BEFORE}{stem}{_AFTER}", name):
                return True
    return any(re.fullmatch(regex, name) for regex in _anchored(model.match))


def _literals(match: "MatchLogic") -> Iterator[tuple[str, bool]]:
    """The names in a matching rule, and for each whether other text may surround it."""
    from genai_prices.types import (
        ClauseAnd,
        ClauseContains,
        ClauseEndsWith,
        ClauseEquals,
        ClauseOr,
        ClauseStartsWith,
    )

    if isinstance(match, ClauseEquals):
        yield match.equals, False
    elif isinstance(match, ClauseStartsWith):
        yield match.starts_with, True
    elif isinstance(match, ClauseEndsWith):
        yield match.ends_with, True
    elif isinstance(match, ClauseContains):
        yield match.contains, True
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _literals(clause)
    elif isinstance(match, ClauseAnd):
        for clause in match.and_:
            yield from _literals(clause)


def _anchored(match: "MatchLogic") -> Iterator[str]:
    """The patterns in a matching rule that describe whole names."""
    from genai_prices.types import ClauseOr, ClauseRegex

    if isinstance(match, ClauseRegex):
        if match.regex.startswith("^") and match.regex.endswith("$"):
            yield match.regex
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _anchored(clause)


def _found(version: str, known: _Known, at: datetime, modifiers: Mapping[str, str], prompt_tokens: int) -> Found | None:
    standard = _rates(known.model.get_prices(at), prompt_tokens)
    if not standard:
        return None
    rates, estimated, listed = standard, not known.certain, set[str]()
    multipliers = {**dict.fromkeys(_STANDARD, Decimal(1)), **GEO_MULTIPLIERS.get(known.provider.id, NOTHING)}
    asked = [(name, word) for name, word in modifiers.items() if (name, word) in _CONTEXTS]
    variants = {name: _variant(known, at, {name: word}, prompt_tokens) for name, word in asked}
    together = _variant(known, at, dict(asked), prompt_tokens) if len(asked) > 1 else {}
    if together:
        variants = dict.fromkeys(variants, together)
    # The rates that a service tier is expected to change; it doesn't change the price of searches.
    discounted = {meter.name for meter in METERS if meter.discounted and meter.name in standard}
    for name, changed in sorted(variants.items(), reverse=True):  # speed changes the rates; then the tier multiplies
        if not changed:
            continue
        if not listed or together:
            rates = {**standard, **changed}
            estimated = estimated or not changed.keys() >= discounted
            listed.add(name)
        else:
            estimated = True
            ratio = _ratio(changed, standard)
            if ratio is not None:
                multipliers[modifiers[name]] = ratio
    if len(modifiers.keys() - {"search_context_size"}) > 1 and not together:
        estimated = True
    if "requests" in rates and modifiers.get("search_context_size") != "high":
        estimated = True  # the package lists the request's cost for the largest context
    entry = Entry(
        name=known.model.id,
        provider=known.provider.id,
        unit="token",
        rates=rates,
        source="genai-prices",
        book=version,
        multipliers=multipliers,
        estimated=estimated,
        parents=True,
        listed=frozenset(listed),
    )
    return Found(entry, "name" if known.is_name else "alias")


def _ratio(changed: Mapping[str, Decimal], standard: Mapping[str, Decimal]) -> Decimal | None:
    """The factor by which a variant multiplies all rates; None if there is no single factor with few places."""
    ratios = {EXACT.divide(rate, standard[name]) for name, rate in changed.items() if standard.get(name)}
    if len(ratios) == 1:
        ratio = ratios.pop()
        if ratio == ratio.quantize(Decimal("0.000001"), context=EXACT):
            return ratio
    return None


def _variant(known: _Known, at: datetime, asked: Mapping[str, str], prompt_tokens: int) -> dict[str, Decimal]:
    """The rates that a service tier or speed changes, according to the provider that lists the model, not a reseller.
    Of two modifiers at once, only what is listed for both."""
    if not any(known.model is model for model in known.provider.models):
        return {}
    changed: dict[str, Decimal] = {}
    for variant in known.model.price_variants or ():
        active = variant.constraint is None or variant.constraint.active(at)
        if active and _is_for(variant.when, asked):
            changed = {**_rates(variant.prices, prompt_tokens), **changed}
    return changed


def _is_for(when: Mapping[str, str], asked: Mapping[str, str]) -> bool:
    if len(when) != len(asked):
        return False
    return all(any(when.get(key) == word for key, word in _CONTEXTS[one]) for one in asked.items())


def _rates(price: "ModelPrice", prompt_tokens: int) -> dict[str, Decimal]:
    """Meter → rate; of rates that depend on the prompt's size, the one for this size."""
    given = price.__dict__
    rates: dict[str, Decimal] = {}
    for meter in METERS:
        for key in meter.genai:
            rate = given.get(key)
            if rate is not None:
                exact = rate if isinstance(rate, Decimal) else _at_size(rate, prompt_tokens)
                # Some of the package's rates have passed through a float: 0.18000000000000002.
                rates[meter.name] = to_cost(exact)
                break
    return rates


def _at_size(rate: "TieredPrices", prompt_tokens: int) -> Decimal:
    """The rate for all tokens of a request with a prompt of this size."""
    chosen = rate.base
    for tier in rate.tiers:
        if prompt_tokens > tier.start:
            chosen = tier.price
    return chosen
