"""Prices per image, megapixel, second, character or page."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from birdfeed_schemas.enrichment import CostStatus, Usage
from birdfeed_schemas.events import Event
from birdfeed_schemas.rows import image_dimensions

from birdfeed_worker.pricing.book.entry import MULTIPLIER, Entry, as_json, worst
from birdfeed_worker.pricing.price.money import as_stored, plain, to_units
from birdfeed_worker.pricing.price.receipt import megapixels, total

_NO_RATES: Final = ""


def by_units(entry: Entry, event: Event, usage: Usage, modifiers: Mapping[str, str]) -> tuple[int, CostStatus, str]:
    """Cost in units of its last decimal place, status and receipt. Tokens are never read as any of these units."""
    quantities = _quantities(entry, event, usage)
    if not quantities and usage.status == "invalid":
        return 0, "unpriced", _NO_RATES
    if not any(quantities.values()):
        # Tokens reported for a model without token rates have no rate; a count of 0 needs no price.
        unpaid = not quantities and any(usage.tokens)
        return 0, "partial" if unpaid else "no_usage", _NO_RATES
    factors, known = entry.factors(modifiers)
    status = entry.status(known)
    rates: dict[str, str] = {}
    for name, quantity in quantities.items():
        rate = entry.rates.get(name)
        if rate is not None and quantity:
            rates[name] = plain(rate)
        elif quantity:
            status = worst(status, "partial")
    if rates:
        rates.update({f"{name}{MULTIPLIER}": plain(factor) for name, factor in factors.items()})
    return to_units(total(rates, quantities)), status, as_json(rates)


def _quantities(entry: Entry, event: Event, usage: Usage) -> dict[str, Decimal]:
    """The quantities that the event reports, in the entry's unit; empty if it reports none."""
    if entry.unit == "second":
        audio = getattr(event, "audio_seconds", None)
        found = {
            "video_second": getattr(event, "video_seconds", None),
            "audio_second": usage.counters.get("seconds") if audio is None else audio,
        }
        return {name: as_stored(Decimal(count)) for name, count in found.items() if count is not None}
    if entry.unit in ("character", "page"):
        own = getattr(event, f"{entry.unit}s", None)
        count = usage.counters.get(f"{entry.unit}s") if own is None else own
        return {} if count is None else {entry.unit: Decimal(count)}
    if not hasattr(event, "num_images"):
        return {}
    images = event.num_images
    if images is None:
        if event.failed:
            return {}  # a failed request without images doesn't get the default of one image
        images = 1
    if entry.unit == "image":
        return {"image": Decimal(images)}
    return {"megapixel": megapixels(images, *image_dimensions(getattr(event, "image_size", None)))}
