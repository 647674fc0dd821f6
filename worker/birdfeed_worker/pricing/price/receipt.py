"""The receipt of a price: what it says in words, and the cost again from a stored row."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import orjson
from birdfeed_schemas.enrichment import Price, Usage
from birdfeed_schemas.events import Event
from birdfeed_schemas.prices import TOKEN_CLASSES
from birdfeed_schemas.rows import image_dimensions

from birdfeed_worker.pricing.book.entry import MULTIPLIER, REPORTED
from birdfeed_worker.pricing.price.money import EXACT, ZERO, plain, to_cost

_PER_MILLION: Final = Decimal(1_000_000)
#: Statuses of costs that come from rates.
_FROM_RATES: Final = frozenset({"priced", "estimated", "partial"})


def seconds_as_stored(seconds: Decimal) -> Decimal:
    """Seconds as the row keeps them, a double, so that the row recomputes to the last digit. They are no money."""
    return Decimal(repr(float(seconds)))


def megapixels(images: int, width: int, height: int) -> Decimal:
    """Millions of pixels, exactly."""
    return EXACT.divide(Decimal(images * width * height), _PER_MILLION)


def total(rates: Mapping[str, str], quantities: Mapping[str, Decimal]) -> Decimal:
    """The exact sum of quantities times rates, times the multiplier if there is one: USD, not yet rounded.

    Quantities of tokens are in millions, as their rates are.
    """
    amount = Decimal(0)
    for name, rate in rates.items():
        if name != MULTIPLIER:
            amount = EXACT.add(amount, EXACT.multiply(Decimal(rate), quantities[name]))
    return EXACT.multiply(amount, Decimal(rates[MULTIPLIER])) if MULTIPLIER in rates else amount


def recompute(row: Mapping[str, Any]) -> Decimal:
    """The cost of a stored row in USD, from its receipt alone.

    Args:
        row: Of the shape in rows.py; reads price_rates, tokens, and of images num_images, width, height, video_seconds
            and audio_seconds. Whole numbers may be text, as a store's JSON has them.

    Raises:
        KeyError: The receipt prices something the row hasn't got.
    """
    if not row["price_rates"]:
        return ZERO
    rates: dict[str, str] = orjson.loads(row["price_rates"])
    quantities: dict[str, Decimal] = {}
    for name in rates:
        if name in TOKEN_CLASSES:
            quantities[name] = EXACT.divide(Decimal(int(row["tokens"][name])), _PER_MILLION)
        elif name == "image":
            quantities[name] = Decimal(int(row["num_images"]))
        elif name == "megapixel":
            quantities[name] = megapixels(int(row["num_images"]), int(row["width"]), int(row["height"]))
        elif name == "video_second":
            quantities[name] = seconds_as_stored(Decimal(str(row["video_seconds"])))
        elif name == "audio_second":
            quantities[name] = seconds_as_stored(Decimal(str(row["audio_seconds"])))
        elif name == REPORTED:
            quantities[name] = Decimal(1)
    return to_cost(total(rates, quantities))


def explain(price: Price, usage: Usage, event: Event) -> list[str]:
    """The arithmetic of a price, line by line, for people; pricing.price_event made it of this usage and event."""
    lines = [f"model {event.model!r}" + (f", answered by {event.model_used!r}" if event.model_used else "")]
    if price.price_model is None:
        lines.append("no price is known for it")
    else:
        by = {"requested": "by the model asked for"}.get(price.price_match, f"by {price.price_match}")
        lines.append(f"price of {price.price_model!r}, found {by}; book {price.price_book} ({price.price_source})")
    counted = {name: getattr(usage.tokens, name) for name in TOKEN_CLASSES}
    lines.append(f"usage {usage.status}: {usage.tokens.prompt:,} tokens in, {usage.tokens.completion:,} out")
    amount = Decimal(0)
    for name, rate in price.rates.items():
        if name == MULTIPLIER:
            continue
        quantity, spelt = _quantity(name, event, counted)
        part = EXACT.multiply(Decimal(rate), quantity)
        amount = EXACT.add(amount, part)
        lines.append(f"{name}: {spelt} * {rate} = {plain(part)}" if spelt else f"{name} by the handler: {rate}")
    if price.cost_status in _FROM_RATES:
        lines += [f"{name}: no rate, left out" for name in _unpaid(price, event, counted)]
    if MULTIPLIER in price.rates:
        factor = price.rates[MULTIPLIER]
        product = plain(EXACT.multiply(amount, Decimal(factor)))
        lines.append(f"service tier {event.service_tier!r}: {plain(amount)} * {factor} = {product}")
    lines.append(f"cost: {plain(price.cost)} USD, {price.cost_status}")
    return lines


def _quantity(name: str, event: Event, counted: Mapping[str, int]) -> tuple[Decimal, str]:
    """How much of a rate's unit there was, and the same as a line says it ("" for a reported cost)."""
    if name in counted:
        return EXACT.divide(Decimal(counted[name]), _PER_MILLION), f"{counted[name]:,} / 1,000,000"
    if name == REPORTED:
        return Decimal(1), ""
    images = getattr(event, "num_images", None)
    images = 1 if images is None else images
    if name == "image":
        return Decimal(images), f"{images:,}"
    if name == "megapixel":
        width, height = image_dimensions(getattr(event, "image_size", None))
        return megapixels(images, width, height), f"{images:,} * {width:,} * {height:,} / 1,000,000"
    seconds = seconds_as_stored(getattr(event, f"{name}s"))
    return seconds, plain(seconds)


def _unpaid(price: Price, event: Event, counted: Mapping[str, int]) -> list[str]:
    """What was used and has no rate, of the kind the price is by."""
    if "image" in price.rates or "megapixel" in price.rates:
        return []
    if "video_second" in price.rates or "audio_second" in price.rates:
        seconds = ("video_second", "audio_second")
        return [name for name in seconds if name not in price.rates and getattr(event, f"{name}s")]
    return [name for name, count in counted.items() if count and name not in price.rates]
