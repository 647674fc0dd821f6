"""The receipt of a price: explain it in words, and recompute the cost from a stored row."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import orjson
from birdfeed_schemas.enrichment import Price, Usage
from birdfeed_schemas.events import Event
from birdfeed_schemas.rows import image_dimensions
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.meters import BY_NAME, TOKEN_CLASSES

from birdfeed_worker.pricing.book.entry import MULTIPLIER, REPORTED
from birdfeed_worker.pricing.price.money import EXACT, PLACES, ZERO, as_stored, from_last_places, plain
from birdfeed_worker.pricing.usage.modifiers import modifiers_of

_PER_MILLION: Final = Decimal(1_000_000)
#: Statuses of costs that come from rates.
_FROM_RATES: Final = frozenset({"priced", "estimated", "partial"})


def megapixels(images: int, width: int, height: int) -> Decimal:
    """Millions of pixels, exactly."""
    return EXACT.divide(Decimal(images * width * height), _PER_MILLION)


def total(rates: Mapping[str, str], quantities: Mapping[str, Decimal]) -> Decimal:
    """The exact sum of quantities times rates, times the multipliers, in USD, not yet rounded.

    Quantities are in the units of their rates: for tokens, millions.
    """
    amount = Decimal(0)
    for name, rate in rates.items():
        if not name.endswith(MULTIPLIER):
            amount = EXACT.add(amount, EXACT.multiply(Decimal(rate), quantities[name]))
    for name, factor in rates.items():
        if name.endswith(MULTIPLIER):
            amount = EXACT.multiply(amount, Decimal(factor))
    return amount


def recompute(row: Mapping[str, Any]) -> Decimal:
    """The cost of a stored row in USD, from its receipt alone.

    Args:
        row: A row in the form of rows.py; reads price_rates, tokens, and for images num_images, width, height,
            video_seconds and audio_seconds. Integers may be text, as in Tinybird's JSON.

    Raises:
        KeyError: The receipt prices something that the row doesn't have.
    """
    if not row["price_rates"]:
        return ZERO
    rates: dict[str, str] = orjson.loads(row["price_rates"])
    factor = Fraction(1)
    for name, text in rates.items():
        if name.endswith(MULTIPLIER):
            factor *= Fraction(text)
    amount = Fraction(0)
    for name, rate in rates.items():
        if not name.endswith(MULTIPLIER):
            part = _stored_quantity(name, row) * Fraction(rate)
            amount += part * factor if is_discounted(name) else part
    return from_last_places(round(amount * 10**PLACES))


def is_discounted(name: str) -> bool:
    """Whether multipliers apply to a rate: to all except those per call, such as web searches."""
    return name not in BY_NAME or BY_NAME[name].discounted


def _stored_quantity(name: str, row: Mapping[str, Any]) -> Fraction:
    """The quantity in a stored row, in the rate's unit."""
    if name == REPORTED:
        return Fraction(1)
    if name in TOKEN_CLASSES:
        return Fraction(int(row["tokens"][name]), 1_000_000)
    if name in BY_NAME:
        counters = row.get("counters", {})
        counted = counters[name] if name != "requests" else counters.get(name, 1)
        return Fraction(Decimal(str(counted))) / BY_NAME[name].per
    if name == "megapixel":
        return Fraction(megapixels(int(row["num_images"]), int(row["width"]), int(row["height"])))
    if name == "image":
        return Fraction(int(row["num_images"]))
    if name in ("video_second", "audio_second"):
        seconds = row.get(f"{name}s") or row.get("counters", {})["seconds"]
        return Fraction(as_stored(Decimal(str(seconds))))
    counted = row.get(f"{name}s") or row.get("counters", {})[f"{name}s"]
    return Fraction(int(counted))


def explain(price: Price, usage: Usage, event: Event) -> list[str]:
    """The arithmetic of a price, line by line, for display; price.price_event computed it from this usage and event."""
    lines = [f"model {event.model!r}" + (f", answered by {event.model_used!r}" if event.model_used else "")]
    if price.price_model is None:
        lines.append("no price is known for it")
    else:
        by = {"requested": "by the model asked for"}.get(price.price_match, f"by {price.price_match}")
        lines.append(f"price of {price.price_model!r}, found {by}; book {price.price_book} ({price.price_source})")
    lines.append(f"usage {usage.status}: {counted(usage.tokens.prompt, 'token')} in, {usage.tokens.completion:,} out")
    amount = Decimal(0)
    for name, rate in price.rates.items():
        if name.endswith(MULTIPLIER):
            continue
        quantity, spelt = _quantity(name, event, usage)
        part = EXACT.multiply(Decimal(rate), quantity)
        amount = EXACT.add(amount, part)
        by = "provider" if price.price_source == "provider" else "handler"
        lines.append(f"{name}: {spelt} * {rate} = {shortened(part)}" if spelt else f"{name} by the {by}: {rate}")
    if price.cost_status in _FROM_RATES:
        lines += [f"{name}: no rate, left out" for name in _unpaid(price, event, usage)]
    for name, factor in price.rates.items():
        if name.endswith(MULTIPLIER):
            what = name.removesuffix(MULTIPLIER)
            word = modifiers_of(event.service_tier, usage).get(what, "")
            lines.append(f"{what.replace('_', ' ')} {word!r}: times {factor}")
    lines.append(f"cost: {plain(price.cost)} USD, {price.cost_status}")
    return lines


def shortened(number: Decimal) -> str:
    """A number for display: exact if it has at most 15 decimal places."""
    text = plain(number)
    return text if len(text.partition(".")[2]) <= 15 else plain(number.quantize(Decimal("1e-15"), context=EXACT))


def _quantity(name: str, event: Event, usage: Usage) -> tuple[Decimal, str]:
    """The quantity in the rate's unit, and its text for a line ("" for a reported cost)."""
    if name == REPORTED:
        return Decimal(1), ""
    if name in BY_NAME:
        per = BY_NAME[name].per
        counted = getattr(usage.tokens, name) if name in TOKEN_CLASSES else usage.counters.get(name, 1)
        return EXACT.divide(Decimal(counted), Decimal(per)), f"{counted:,} / {per:,}"
    images = getattr(event, "num_images", None)
    images = 1 if images is None else images
    if name == "image":
        return Decimal(images), f"{images:,}"
    if name == "megapixel":
        width, height = image_dimensions(getattr(event, "image_size", None))
        return megapixels(images, width, height), f"{images:,} * {width:,} * {height:,} / 1,000,000"
    own = getattr(event, f"{name}s", None)
    counter = {"audio_second": "seconds"}.get(name, f"{name}s")
    counted = as_stored(Decimal(usage.counters[counter] if own is None else own))
    return counted, plain(counted)


def _unpaid(price: Price, event: Event, usage: Usage) -> list[str]:
    """What was used but has no rate, of the kind that the price is for."""
    if "image" in price.rates or "megapixel" in price.rates:
        return []
    if "video_second" in price.rates or "audio_second" in price.rates:
        seconds = ("video_second", "audio_second")
        return [name for name in seconds if name not in price.rates and getattr(event, f"{name}s", None)]
    counted = {**usage.tokens._asdict(), **usage.counters}
    return [name for name, count in counted.items() if count and name not in price.rates]
