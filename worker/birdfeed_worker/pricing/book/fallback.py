"""Prices of text models that no book has, from the genai-prices package; only where it knows the very model.

The package's own calc_price is not used. It would take a name that merely contains a model's for that model, price
audio and images at the text rate where it has none of their own, and ignore a service tier it doesn't know. Here:

- a name must be the model's, or that with a date, a version or a region: `gpt-5-nano-2025-08-07`, not `gpt-5-nano-max`;
- a class it has no rate for has no rate (pricing.py then says "partial" or "estimated");
- a service tier it doesn't know, or whose rates it only knows in part, makes the row "estimated"; so does a provider
  it doesn't know, or one that it doesn't list the model for;
- a model that also costs something per request is "partial".
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.pricing.book.entry import Entry, Found
from birdfeed_worker.pricing.price.money import to_cost

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider, TieredPrices

#: The package's price keys → the classes they are rates of (both USD per 1,000,000 tokens).
_CLASSES: Final[Mapping[str, str]] = {
    "input_mtok": "prompt_text",
    "cache_read_mtok": "prompt_cached",
    "cache_write_mtok": "prompt_cache_write",
    "input_audio_mtok": "prompt_audio",
    "input_image_mtok": "prompt_image",
    "output_mtok": "completion_text",
    "output_reasoning_mtok": "completion_reasoning",
    "output_audio_mtok": "completion_audio",
    "output_image_mtok": "completion_image",
}
#: A price per request, which usage doesn't tell.
_PER_REQUEST: Final = "requests_kcount"
#: Service tiers that mean the standard price, and the package's words for the others.
_STANDARD: Final = frozenset({"default", "standard"})
_CONTEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}
#: What may stand before a model's name (a region, its maker, a path) and after it (a date, a version).
_BEFORE: Final = r"(?:publishers/[a-z]+/models/|models/)?(?:(?:us|eu|ap|apac|au|jp|ca|us-gov)\.)?(?:[a-z]+\.)?"
_AFTER: Final = r"(?:[-@]?20\d{6}|[-@]20\d\d-\d\d-\d\d|-\d\d-\d\d|-\d{3}|[-@](?:latest|default))?(?:-v\d+)?(?::\d+)?"
#: Lookups and prices remembered; names come from handlers, so there must be a bound.
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """A model of the package.

    `certain`: it is listed for the event's provider; `thresholds`: numbers of prompt tokens above which rates change.
    """

    model: "ModelInfo"
    provider: "Provider"
    is_name: bool
    certain: bool
    thresholds: tuple[int, ...]
    by_hour: bool


class GenaiPrices:
    """The fallback: prices of text models by the genai-prices package, imported when first asked.

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
        self._known: dict[tuple[str, str | None], _Known | None] = {}
        self._found: dict[tuple[object, ...], Found | None] = {}

    def find(
        self, name: str, at: datetime, provider: str | None, service_tier: str | None, prompt_tokens: int
    ) -> Found | None:
        """The price of a model for one request; see price_book.Fallback."""
        key = (name, provider)
        if key in self._known:
            known = self._known[key]
        else:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._look_up(name, provider)
        if known is None:
            return None
        if known.by_hour:
            return _found(self.version, known, at, service_tier, prompt_tokens)
        # Prices change at midnight UTC, and where a prompt passes a threshold.
        case = (key, at.date(), service_tier, bisect_left(known.thresholds, prompt_tokens))
        if case not in self._found:
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            self._found[case] = _found(self.version, known, at, service_tier, prompt_tokens)
        return self._found.get(case)

    @cached_property
    def _snapshot(self) -> "DataSnapshot":
        from genai_prices.data_snapshot import get_snapshot

        return get_snapshot()

    def _look_up(self, name: str, provider: str | None) -> _Known | None:
        from genai_prices.data_snapshot import find_provider_by_id

        listed = find_provider_by_id(self._snapshot.providers, provider) if provider else None
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
    """Whether a name is a model's own, as spelt or in lower case, with a date, a version or a region at most."""
    for literal, anywhere in (*_literals(model.match), (model.id, True)):
        if name in (literal, literal.lower()) or (literal.startswith("ft:") and name.startswith(literal)):
            return True
        if anywhere:
            stem = re.escape(literal.lower().rstrip("-@"))
            if re.fullmatch(f"{_BEFORE}{stem}{_AFTER}", name):
                return True
    return any(re.fullmatch(regex, name) for regex in _anchored(model.match))


def _literals(match: "MatchLogic") -> Iterator[tuple[str, bool]]:
    """The names a rule is made of, and whether more may stand around each."""
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
    """The patterns of a rule that describe whole names."""
    from genai_prices.types import ClauseOr, ClauseRegex

    if isinstance(match, ClauseRegex):
        if match.regex.startswith("^") and match.regex.endswith("$"):
            yield match.regex
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _anchored(clause)


def _found(version: str, known: _Known, at: datetime, service_tier: str | None, prompt_tokens: int) -> Found | None:
    standard = _rates(known.model.get_prices(at), prompt_tokens)
    if not any(name in standard for name in _CLASSES.values()):
        return None
    rates, tiers, estimated = standard, dict.fromkeys(_STANDARD, Decimal(1)), not known.certain
    tier = (service_tier or "").strip().lower()
    changed = _variant(known, at, tier, prompt_tokens)
    if changed:
        rates = {**standard, **changed}
        tiers[tier] = Decimal(1)
        estimated = estimated or not changed.keys() >= standard.keys() - {_PER_REQUEST}
    entry = Entry(
        name=known.model.id,
        provider=known.provider.id,
        unit="token",
        rates={name: rate for name, rate in rates.items() if name != _PER_REQUEST},
        source="genai-prices",
        book=version,
        service_tiers=tiers,
        estimated=estimated,
        partial=_PER_REQUEST in rates,
    )
    return Found(entry, "name" if known.is_name else "alias")


def _variant(known: _Known, at: datetime, tier: str, prompt_tokens: int) -> dict[str, Decimal]:
    """The rates a service tier changes; variants are of the provider that lists the model, not of its resellers."""
    context = _CONTEXTS.get(tier)
    if context is None or not any(known.model is model for model in known.provider.models):
        return {}
    changed: dict[str, Decimal] = {}
    for variant in known.model.price_variants or ():
        active = variant.constraint is None or variant.constraint.active(at)
        if active and all(context.get(key) == value for key, value in variant.when.items()):
            changed = {**_rates(variant.prices, prompt_tokens), **changed}
    return changed


def _rates(price: "ModelPrice", prompt_tokens: int) -> dict[str, Decimal]:
    """The rates of a price by class; of those that grow with the prompt, the one in force."""
    rates: dict[str, Decimal] = {}
    for key, rate in price.__dict__.items():
        if rate is not None and (key in _CLASSES or key == _PER_REQUEST):
            exact = rate if isinstance(rate, Decimal) else _at_size(rate, prompt_tokens)
            # Some of theirs have been through a double: 0.18000000000000002.
            rates[_CLASSES.get(key, key)] = to_cost(exact)
    return rates


def _at_size(rate: "TieredPrices", prompt_tokens: int) -> Decimal:
    """The rate for all tokens of a request whose prompt passes a tier's start."""
    chosen = rate.base
    for tier in rate.tiers:
        if prompt_tokens > tier.start:
            chosen = tier.price
    return chosen
