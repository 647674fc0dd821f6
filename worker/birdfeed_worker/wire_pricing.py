"""Wires what prices and tiers come from, by the settings."""

from pathlib import Path

from redis import Redis

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.price_book import Books, load
from birdfeed_worker.price_fallback import GenaiPrices
from birdfeed_worker.price_source import BookSource
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tier_lookup import CachedTiers, NoTiers, TierLookup
from birdfeed_worker.tier_sources import AuthServiceTiers, FileTiers, RedisTiers
from birdfeed_worker.tinybird import json_getter


def book_source_of(settings: WorkerSettings) -> BookSource:
    """The books in their order: the operator's own, the shipped one, then the fallback. Raises PriceBookError."""
    return BookSource(settings.price_book, fallback=GenaiPrices() if settings.price_fallback else None)


def only_book(path: Path) -> Books:
    """One file alone, without fallback. Raises PriceBookError."""
    return Books((load(path),))


def tiers_of(settings: WorkerSettings, connection: Redis) -> TierLookup:
    """Where tiers are looked up.

    Raises:
        ConfigurationError: BIRDFEED_TIERS is none of redis:<key>, file:<path>, http(s)://..., or the file is wrong.
    """
    where = settings.tiers
    if not where:
        return NoTiers()
    kind, _, rest = where.partition(":")
    if kind == "file":
        return FileTiers(Path(rest))
    if kind == "redis" and rest:
        return CachedTiers(RedisTiers(connection, rest), ttl=settings.tier_ttl, budget=settings.tier_timeout)
    if kind in {"http", "https"}:
        source = AuthServiceTiers(json_getter(where, settings.tier_timeout))
        return CachedTiers(source, ttl=settings.tier_ttl, budget=settings.tier_timeout)
    raise ConfigurationError(
        f"BIRDFEED_TIERS is {where!r}; it is redis:<hash key>, file:<path>, or the auth service's http(s) URL"
    )
