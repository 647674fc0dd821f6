"""Rows as Tinybird gets them, made of enriched events. Their models are in row_models.py.

A row for llm_events also lands, without quarantine, in the llm_events of Tinybird's own LLM template: the JSON keeps
that template's paths where it has a column, and start_time, end_time, message_id and response.id, which have no
default there, are always present. Other values that equal their column's default are left out: a quarter of an
ordinary row said nothing. Rows are built as plain dicts, because a worker makes tens of thousands a second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
from msgspec import Struct

from birdfeed_schemas.enrichment import Price, Tier, Tokens, Usage
from birdfeed_schemas.events import MAX_ERROR_MESSAGE, MAX_TEXT, MAX_TRACEBACK, Event, ImageGeneration, TextGeneration
from birdfeed_schemas.tables.meters import DEFAULTS, FRACTIONS
from birdfeed_schemas.times import Times, times_of
from birdfeed_schemas.typed.lines import Line
from birdfeed_schemas.wire.envelope import Envelope

#: Bytes of JSON kept of the extra fields an operator allowed, and of moderation results.
MAX_EXTRA: Final = 4_096


@dataclass(slots=True, kw_only=True)
class Enriched:
    """A valid event with all that a row is made of. `enriched_at` (UTC) is the worker's clock, the row's version.

    `extra` holds the fields the operator allowed by name; `dropped_fields` counts what is not stored;
    `usage_raw` is the usage as it came, without text, and `usage_raw_dropped` says that it could not be kept;
    `replay_id` is set on replayed events; `times` is what times() says of the event, computed here if left out.
    """

    envelope: Envelope | Line
    event: Event
    usage: Usage
    price: Price
    tier: Tier
    enriched_at: datetime
    extra: Mapping[str, Any]
    dropped_fields: int = 0
    replay_id: str = ""
    keep_traceback: bool = False
    usage_raw: str = ""
    usage_raw_dropped: bool = False
    times: Times | None = None


def common(enriched: Enriched) -> dict[str, Any]:
    """The part of a row that every data source has (the fields of Row), ready for orjson."""
    envelope, event, error = enriched.envelope, enriched.event, enriched.event.error
    start, end, duration, clamped = enriched.times or times_of(event, envelope.occurred_at)
    row: dict[str, Any] = {
        "event_id": envelope.event_id,
        "event_type": envelope.event_type,
        "occurred_at": envelope.occurred_at,
        "start_time": start,
        "end_time": end,
        "model": event.model[:MAX_TEXT],
        "model_used": (event.model_used or event.model)[:MAX_TEXT],
        "status": "error" if event.failed else "success",
        "duration": duration,
        "usage_status": enriched.usage.status,
        "enriched_at": enriched.enriched_at,
    }
    _add_price(row, enriched.price)
    tier, tier_source = enriched.tier
    if tier != "unknown":
        row["tier"] = tier[:MAX_TEXT]
    if tier_source != "none":
        row["tier_source"] = tier_source
    # One by one, because a loop over their names costs as much again.
    if event.user:
        row["user"] = event.user[:MAX_TEXT]
    if event.username:
        row["username"] = event.username[:MAX_TEXT]
    if event.request_id:
        row["request_id"] = event.request_id[:MAX_TEXT]
    if event.referrer:
        row["referrer"] = event.referrer[:MAX_TEXT]
    if event.cache_hit:
        row["cache_hit"] = True
    if event.cache_key:
        row["cache_key"] = event.cache_key[:MAX_TEXT]
    service_tier = event.service_tier or enriched.usage.modifiers.get("service_tier")
    if service_tier:
        row["service_tier"] = service_tier[:MAX_TEXT]
    if event.trace_id:
        row["trace_id"] = event.trace_id[:MAX_TEXT]
    if event.span_id:
        row["span_id"] = event.span_id[:MAX_TEXT]
    if enriched.usage_raw:
        row["usage_raw"] = enriched.usage_raw
    elif enriched.usage_raw_dropped:
        row["usage_raw_dropped"] = True
    if clamped:
        row["time_clamped"] = True
    if error is not None:
        row["error_type"] = error.type[:MAX_TEXT]
        row["error_code"] = error.code[:MAX_TEXT]
        row["exception"] = error.message[:MAX_ERROR_MESSAGE]
        if enriched.keep_traceback:
            row["traceback"] = error.traceback[:MAX_TRACEBACK]
    tokens = token_counts(enriched.usage.tokens)
    if tokens:
        row["tokens"] = tokens
    if enriched.usage.counters:
        row["counters"] = counters_of(enriched.usage)
    if envelope.truncated or _is_cut(event):
        row["truncated"] = True
    if enriched.extra:
        row["extra"] = bounded_json(enriched.extra)
    if enriched.dropped_fields:
        row["dropped_fields"] = enriched.dropped_fields
    if enriched.replay_id:
        row["replay_id"] = enriched.replay_id
    return row


def counters_of(usage: Usage) -> dict[str, int | float]:
    """Counters as they stand in a row: those there are."""
    return {
        name: float(count) if name in FRACTIONS else int(count)
        for name, count in usage.counters.items()
        if count != DEFAULTS.get(name, 0)
    }


def _is_cut(event: Event) -> bool:
    """Whether a text of the event is longer than a row keeps."""
    if isinstance(event, Struct):
        return False  # typed/lines.py reads none that is
    given = event.__dict__
    for name in event.model_fields_set:
        value = given[name]
        if type(value) is str and len(value) > MAX_TEXT and name != "usage":  # of which no text is kept
            return True
    error = event.error
    return error is not None and (len(error.message) > MAX_ERROR_MESSAGE or len(error.traceback) > MAX_TRACEBACK)


def _caller(event: Event) -> dict[str, str]:
    """Whose event it is, as far as it says."""
    caller = {}
    if event.organization:
        caller["organization"] = event.organization[:MAX_TEXT]
    if event.project:
        caller["project"] = event.project[:MAX_TEXT]
    if event.environment:
        caller["environment"] = event.environment[:MAX_TEXT]
    return caller


def _add_price(row: dict[str, Any], price: Price) -> None:
    row["cost"] = float(price.cost)
    row["cost_exact"] = format(price.cost, "f")
    row["cost_status"] = price.cost_status
    if price.provider:
        row["provider"] = price.provider[:MAX_TEXT]
    if price.price_match != "none":
        row["price_match"] = price.price_match
    if price.price_model:
        row["price_model"] = price.price_model
    if price.price_source != "none":
        row["price_source"] = price.price_source
    if price.price_book:
        row["price_book"] = price.price_book
    if price.rates_json:
        row["price_rates"] = price.rates_json


def price_fields(price: Price) -> dict[str, Any]:
    """The part of a row that says what an event cost and why; all that a later price may change. Nothing left out."""
    return {
        "cost": float(price.cost),
        "cost_exact": format(price.cost, "f"),
        "cost_status": price.cost_status,
        "price_match": price.price_match,
        "price_model": price.price_model or "",
        "price_source": price.price_source,
        "price_book": price.price_book,
        "price_rates": price.rates_json,
    }


def llm_event_row(enriched: Enriched) -> dict[str, Any]:
    """A row of llm_events from an enriched text_generation event."""
    event, event_id = cast(TextGeneration, enriched.event), enriched.envelope.event_id
    row = common(enriched)
    failed = row["status"] == "error"
    row["id"] = event_id
    row["message_id"] = row.get("request_id") or event_id
    row["call_type"] = "completion"
    row["log_event_type"] = "failed_api_call" if failed else "successful_api_call"
    row["standard_logging_object_status"] = "failure" if failed else "success"
    row["standard_logging_object_response_time"] = row["llm_api_duration_ms"] = row["duration"]
    if event.stream:
        row["stream"] = True
    caller = _caller(event)
    if event.chat_id:
        caller["chat_id"] = event.chat_id[:MAX_TEXT]
    if caller:
        row["proxy_metadata"] = caller
    row["response"] = {"id": (event.response_id or "")[:MAX_TEXT], "object": "chat.completion"}
    if "tokens" in row:
        tokens = enriched.usage.tokens
        prompt, completion = tokens.prompt, tokens.completion
        row["response"]["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
    if event.moderation:
        verdicts, flagged = moderation_verdicts(event.moderation)
        row["moderation"] = bounded_json(verdicts) if verdicts else ""
        row["moderation_flagged"] = flagged
    return row


def image_event_row(enriched: Enriched) -> dict[str, Any]:
    """A row of image_events from an enriched image_generation event."""
    event = cast(ImageGeneration, enriched.event)
    row = {**common(enriched), **_caller(event)}
    if event.image_size:
        row["image_size"] = event.image_size[:MAX_TEXT]
        row["width"], row["height"] = image_dimensions(event.image_size)
    # One by default, but not for a request that gave none; priced alike.
    row["num_images"] = (0 if event.failed else 1) if event.num_images is None else event.num_images
    if event.quality:
        row["quality"] = event.quality[:MAX_TEXT]
    if event.has_input_image:
        row["has_input_image"] = True
    if event.video_seconds:
        row["video_seconds"] = float(event.video_seconds)
    if event.audio_seconds:
        row["audio_seconds"] = float(event.audio_seconds)
    if event.characters:
        row.setdefault("counters", {})["characters"] = event.characters
    return row


def image_dimensions(size: str | None) -> tuple[int, int]:
    """Width and height in pixels from "WxH"; zeros where the text says something else."""
    width, _, height = (size or "").lower().partition("x")
    # Ten digits hold what a column does; int() refuses thousands of them with an error.
    if width.isascii() and height.isascii() and width.isdigit() and height.isdigit() and len(width + height) <= 20:
        pixels = int(width), int(height)
        if max(pixels) < 2**32:
            return pixels
    return 0, 0


def moderation_verdicts(moderation: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """What a moderation result says, without any text it may quote: booleans, numbers and short words.

    A result counts as flagged where any `filtered`, `flagged`, `detected` or `blocked` in it is true.
    """
    flagged = False

    def verdict(value: Any, depth: int) -> Any:
        nonlocal flagged
        if isinstance(value, dict) and depth < 4:
            kept = {}
            for key, part in value.items():
                if part is True and key in {"filtered", "flagged", "detected", "blocked"}:
                    flagged = True
                said = verdict(part, depth + 1)
                if said is not None:
                    kept[str(key)[:64]] = said
            return kept or None
        if isinstance(value, bool | int | float):
            return value
        if isinstance(value, str) and len(value) <= 32 and value.isidentifier():
            return value
        return None

    return (verdict(moderation, 0) or {}) if moderation else {}, flagged


def token_counts(tokens: Tokens) -> dict[str, int]:
    """Tokens as they stand in a row: those there are."""
    return {name: count for name, count in zip(Tokens._fields, tokens, strict=True) if count}


def bounded_json(value: Any) -> str:
    """JSON text of at most MAX_EXTRA bytes; a larger value is replaced by the names of its keys, then by nothing."""
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_EXTRA:
        encoded = orjson.dumps({"too_large": sorted(str(key)[:64] for key in value)[:32]})
    return encoded.decode() if len(encoded) <= MAX_EXTRA else ""
