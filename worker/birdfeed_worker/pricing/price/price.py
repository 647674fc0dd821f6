"""What an event cost, with the receipt to recompute it from. Pure: no clock, no file, no network.

USD in 12 places, rounded half to even, once, at the end. Token counts times rates are whole numbers throughout; what
else there is to multiply is Decimal in a context of its own.
"""

from datetime import datetime
from decimal import Decimal
from operator import mul
from typing import Final

from birdfeed_schemas.enrichment import CostStatus, Price, PriceMatch, Usage
from birdfeed_schemas.events import Event
from birdfeed_schemas.rows import image_dimensions

from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.entry import MULTIPLIER, REPORTED, Entry, as_json
from birdfeed_worker.pricing.price.money import TOO_LARGE, ZERO, from_last_places, half_even, plain, to_cost
from birdfeed_worker.pricing.price.receipt import megapixels, seconds_as_stored, total

#: The one type whose models the fallback prices: it knows no images, seconds or variants.
TEXT: Final = "text_generation"
_NO_RATES: Final = ""


def price_event(event_type: str, event: Event, usage: Usage, at: datetime, book: Books) -> Price:
    """The cost of one event.

    Args:
        event_type: Its type; only text models have a fallback.
        usage: Its usage, normalised.
        at: The date of the price (aware): the event's start_time, or when it was tracked if it has none.
        book: Where prices are.

    Returns:
        The price. Its cost is 0 where nothing could be priced, and cost_status says why. Never raises for an event
        that is valid.
    """
    found = _find(event_type, event, usage, at, book)
    if found is None:
        cost, status, rates = _without_price(event)
        return Price(
            cost=cost,
            cost_status=status,
            price_match="none",
            price_source="event" if status == "reported" else "none",
            provider=event.provider,
            rates_json=rates,
        )
    entry, match = found
    source = entry.source
    if event.cache_hit or event.cost is not None:
        cost, status, rates = _without_price(event)
        if status == "reported":
            source = "event"
    elif entry.unit == "token":
        cost, status, rates = _by_tokens(entry.for_event(event), event, usage)
    else:
        cost, status, rates = _by_units(entry.for_event(event), event, usage)
    return Price(
        cost=cost,
        cost_status=status,
        price_match=match,
        price_model=entry.name,
        price_book=entry.book,
        price_source=source,
        provider=event.provider or entry.provider,
        rates_json=rates,
    )


def _find(event_type: str, event: Event, usage: Usage, at: datetime, book: Books) -> tuple[Entry, PriceMatch] | None:
    """The price of the model that answered, else of the one that was asked for; never of another."""
    fallback = book.fallback if event_type == TEXT else None
    for name, requested in ((event.model_used, False), (event.model, True)):
        if not name:
            continue
        found = book.find(name, at)
        if found is None and fallback is not None:
            found = fallback.find(name, at, event.provider, event.service_tier, usage.tokens.prompt)
        if found is not None:
            return found.entry, "requested" if requested else found.match
    return None


def _without_price(event: Event) -> tuple[Decimal, CostStatus, str]:
    """Cost, status and receipt of an event that needs no price, or has none."""
    if event.cache_hit:
        return ZERO, "cache_hit", _NO_RATES
    if event.cost is not None:
        cost = to_cost(event.cost)
        return cost, "reported", as_json({REPORTED: plain(cost)})
    return ZERO, "unpriced", _NO_RATES


def _by_tokens(entry: Entry, event: Event, usage: Usage) -> tuple[Decimal, CostStatus, str]:
    if usage.status == "invalid":
        return ZERO, "unpriced", _NO_RATES
    tokens = usage.tokens
    present = tuple(map(bool, tokens))
    if True not in present:
        return ZERO, "no_usage", _NO_RATES
    plan = entry.plan(present, event.service_tier)
    units = sum(map(mul, tokens, plan.scaled))
    if plan.divisor != 1:
        units = half_even(units, plan.divisor)
    status = plan.status
    if status == "priced" and usage.status == "inconsistent":
        status = "estimated"
    return from_last_places(units), status, plan.rates_json


def _by_units(entry: Entry, event: Event, usage: Usage) -> tuple[Decimal, CostStatus, str]:
    """Images, megapixels and seconds. Tokens are never read as any of these."""
    quantities = _quantities(entry, event)
    if not quantities and usage.status == "invalid":
        return ZERO, "unpriced", _NO_RATES
    if not any(quantities.values()):
        # Tokens reported to a model without token rates are classes without a rate; a plain 0 is nothing to price.
        unpaid = not quantities and any(usage.tokens)
        return ZERO, "partial" if unpaid else "no_usage", _NO_RATES
    multiplier = entry.multiplier(event.service_tier)
    status = entry.status(multiplier)
    rates: dict[str, str] = {}
    for name, quantity in quantities.items():
        rate = entry.rates.get(name)
        if rate is not None and quantity:
            rates[name] = plain(rate)
        elif quantity:
            status = "partial"
    if rates and multiplier is not None and multiplier != 1:
        rates[MULTIPLIER] = plain(multiplier)
    cost = to_cost(total(rates, quantities))
    if cost >= TOO_LARGE:  # megapixels of impossible images
        return ZERO, "unpriced", _NO_RATES
    return cost, status, as_json(rates)


def _quantities(entry: Entry, event: Event) -> dict[str, Decimal]:
    """How much of the entry's unit the event reports; empty where it doesn't say."""
    if entry.unit == "second":
        return {
            name: seconds_as_stored(seconds)
            for name, seconds in (
                ("video_second", getattr(event, "video_seconds", None)),
                ("audio_second", getattr(event, "audio_seconds", None)),
            )
            if seconds is not None
        }
    if not hasattr(event, "num_images"):
        return {}
    images = event.num_images
    if images is None:
        if event.failed:
            return {}  # the default of one image is not for a request that gave none
        images = 1
    if entry.unit == "image":
        return {"image": Decimal(images)}
    return {"megapixel": megapixels(images, *image_dimensions(getattr(event, "image_size", None)))}
