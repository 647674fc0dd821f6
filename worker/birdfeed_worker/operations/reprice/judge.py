"""Reprice: what a stored row costs by today's price books, and the row that corrects it. Pure.

If a row keeps the usage as it was sent (usage_raw), that is read again, so that what an older birdfeed misread is
corrected. Other rows are priced again from what they keep: token classes, counters, images, seconds, names and service
tier. The date of the price is the row's start_time. Only usage and price change: otherwise the correction is the same
row with a later version, so that it replaces the old one by the table's sorting key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import orjson
from birdfeed_schemas.enrichment import Tokens, Usage
from birdfeed_schemas.events import Event
from birdfeed_schemas.registry import registry
from birdfeed_schemas.rows import counters_of, price_fields
from birdfeed_schemas.tables.meters import COUNTERS, DEFAULTS, FRACTIONS

from birdfeed_worker.operations.reprice.row_reader import later_than
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.names import provider_of
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.price.receipt import recompute
from birdfeed_worker.pricing.usage.normalise import TABLE, normalise_usage
from birdfeed_worker.pricing.usage.plan import Table

#: SQL for rows whose cost doesn't come from a price book; they are never repriced.
NO_BOOK_DECIDES: Final = "cost_status IN ('reported', 'cache_hit')"

#: Fields whose change makes a new price, besides the cost. (Not the book's hash: it changes with any of its entries.)
_RECEIPT: Final = ("cost_status", "price_match", "price_model", "price_source", "price_rates")

#: Why a row stays as it is. "Refused" rows must be examined: a row contradicts its receipt, or its type is unknown.
Same: TypeAlias = Literal["same_book", "same_price"]
Refusal: TypeAlias = Literal["receipt_mismatch", "unknown_event_type", "invalid_row"]
#: Every reason in words.
REASONS: Final[Mapping[str, str]] = {
    "no_book_decides": "the handler reported the cost, or the answer came from a cache",
    "same_book": "priced with the book that is in use",
    "same_price": "the books in use give the same price, or none",
    "receipt_mismatch": "the stored counts and rates don't give the stored cost: the table changed one of them",
    "unknown_event_type": "no event type of that name is installed here",
    "invalid_row": "the row can't be read as an event",
}


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The row stays as it is, with the reason."""

    reason: Same | Refusal

    @property
    def refused(self) -> bool:
        """Whether an operator should examine why it could not be repriced."""
        return self.reason not in ("same_book", "same_price")


@dataclass(frozen=True, slots=True)
class Correction:
    """The row that replaces a stored one, and both costs in USD."""

    row: dict[str, Any]
    old: Decimal
    new: Decimal


def reprice(row: Mapping[str, Any], books: Books, now: datetime) -> Unchanged | Correction:
    """Reprice one stored row.

    Args:
        row: A row as row_reader.py rebuilds it, which was priced by a book (never a NO_BOOK_DECIDES row).
        now: The version of a correction; if the row's own is later, the correction's is just above that.
    """
    if row["event_type"] not in registry():
        return Unchanged("unknown_event_type")
    old = Decimal(row["cost_exact"])
    try:
        if recompute(row) != old:
            return Unchanged("receipt_mismatch")
        event = event_of(row)
    except (KeyError, ValueError, ArithmeticError):
        return Unchanged("invalid_row")
    usage = usage_of(row)
    price = price_event(row["event_type"], event, usage, datetime.fromisoformat(row["start_time"]), books)
    counted = usage_fields(row, price.usage or usage)
    same_usage = all(_same(counted[name], row.get(name)) for name in counted)
    fields = {**price_fields(price), **counted}
    same_entry = bool(price.price_book) and (price.price_book, price.price_model) == (
        row["price_book"],
        row["price_model"],
    )
    if same_usage and same_entry and not row.get("usage_raw"):
        # The entry and the usage are the same: a difference could only come from what the row doesn't keep.
        return Unchanged("same_book")
    if same_usage and old == price.cost and all(fields[name] == row[name] for name in _RECEIPT):
        return Unchanged("same_book" if same_entry else "same_price")
    return Correction({**row, **fields, "enriched_at": later_than(row["enriched_at"], now)}, old, price.cost)


def event_of(row: Mapping[str, Any]) -> Event:
    """The event of a stored row, with what its price depends on.

    Raises:
        ValueError: The row is not a valid event of its type.
    """
    images = row.get("num_images")
    failed = row["status"] == "error"
    return registry()[row["event_type"]].event.model_validate(
        {
            "model": row["model"],
            "model_used": _model_used(row),
            "provider": None if row["provider"] == "unknown" else row["provider"],
            "status": "error" if failed else "success",
            "service_tier": row["service_tier"] or None,
            "image_size": row.get("image_size") or None,
            # A failed request without a number of images stores 0.
            "num_images": None if failed and not images else images,
            "quality": row.get("quality") or None,
            "has_input_image": row.get("has_input_image"),
            "video_seconds": _seconds(row, "video_seconds"),
            "audio_seconds": _seconds(row, "audio_seconds"),
            "characters": row.get("counters", {}).get("characters") or None,
        }
    )


def _model_used(row: Mapping[str, Any]) -> str | None:
    """The model that answered; None if the event didn't say: then the row repeats the requested one."""
    if row["model_used"] != row["model"] or row["price_match"] in ("name", "alias", "original_name"):
        return str(row["model_used"])
    return None


def usage_of(row: Mapping[str, Any], table: Table = TABLE) -> Usage:
    """The usage of a stored row: read again from usage_raw if there is one, else as it was read then."""
    if row.get("usage_raw"):
        provider = None if row["provider"] == "unknown" else row["provider"]
        return normalise_usage(orjson.loads(row["usage_raw"]), provider_of(provider, row["model_used"]), table)
    return stored_usage(row)


def stored_usage(row: Mapping[str, Any]) -> Usage:
    """The usage of a stored row as it was read when the row was priced."""
    counters = {
        name: Decimal(repr(count)) if name in FRACTIONS else count
        for name, count in row.get("counters", {}).items()
        if count != DEFAULTS.get(name, 0)
    }
    return Usage(status=row["usage_status"], tokens=Tokens(**row["tokens"]), counters=counters)


def usage_fields(row: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """The fields of a row for its usage, including defaults."""
    fields: dict[str, Any] = {
        "usage_status": usage.status,
        "tokens": usage.tokens._asdict(),
        "counters": {**{name: DEFAULTS.get(name, 0) for name in COUNTERS}, **counters_of(usage)},
    }
    if "usage" in row.get("response", {}):  # only in tables of an earlier datafile
        prompt, completion = usage.tokens.prompt, usage.tokens.completion
        totals = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        fields["response"] = {**row["response"], "usage": totals}
    return fields


def _same(made: Any, stored: Any) -> bool:
    """Whether a part of a row equals the stored one; numbers in it may be of another type."""
    if isinstance(made, Mapping):
        return isinstance(stored, Mapping) and all(_same(made[name], stored.get(name, 0)) for name in made)
    return bool(made == stored)


def _seconds(row: Mapping[str, Any], name: str) -> Decimal | None:
    seconds = row.get(name)
    return Decimal(repr(seconds)) if seconds else None
