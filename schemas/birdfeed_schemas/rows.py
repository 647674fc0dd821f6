"""Make rows for Tinybird from enriched events. row_models.py defines the rows.

A row for llm_events also fits the llm_events of Tinybird's own LLM template, without quarantine: the JSON uses the
template's paths where it has a column, and start_time, end_time, message_id and response.id, which have no default
there, are always present. A short row, for the llm_events that birdfeed ships now, has no redundant fields.

Rows are created with positional arguments: by name it would take ten times as long.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import msgspec
import orjson
from msgspec import UNSET, Struct

from birdfeed_schemas.enrichment import Price, Tier, Usage
from birdfeed_schemas.events import MAX_ERROR_MESSAGE, MAX_TRACEBACK, Event, EventError, ImageGeneration, TextGeneration
from birdfeed_schemas.events import MAX_TEXT as MAX_TEXT
from birdfeed_schemas.row_models import (
    ALL_SENT,
    NO_COUNTERS,
    NO_TOKENS,
    NO_TOTALS,
    Counters,
    ImageEventRow,
    LlmEventRow,
    ProxyMetadata,
    Response,
    ResponseUsage,
    Row,
    TokenCounts,
)
from birdfeed_schemas.tables import meters
from birdfeed_schemas.tables.former import DEFAULTS
from birdfeed_schemas.times import Times, times_of
from birdfeed_schemas.typed.lines import Line
from birdfeed_schemas.wire.envelope import Envelope

#: Bytes of JSON kept of the extra fields that the operator allowed, and of moderation results.
MAX_EXTRA: Final = 4_096
#: Characters kept of an error's parts.
_ERROR_LENGTHS: Final = (
    ("type", MAX_TEXT),
    ("message", MAX_ERROR_MESSAGE),
    ("code", MAX_TEXT),
    ("traceback", MAX_TRACEBACK),
)
_NO_ERROR: Final = EventError()


class Enriched(Struct, gc=False):
    """A valid event with all that a row is made from. `enriched_at` (UTC, by the worker's clock) is the row's version.

    `extra` holds the fields that the operator allowed by name; `dropped_fields` counts what is not stored; `usage_raw`
    is the usage as it was sent, without text, and `usage_raw_dropped` says that it could not be kept; `replay_id` is
    set on replayed events; `times` is the result of times() for the event, computed here if left out; `short` says that
    the row is for a table that takes short rows (tables/former.py).
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
    short: bool = False


def common(enriched: Enriched) -> dict[str, Any]:
    """The part of a row that every data source has (the fields of Row) as a dict, without defaults."""
    fields: dict[str, Any] = msgspec.to_builtins(Row(*_common(enriched)), builtin_types=(datetime,))
    return fields


def _common(enriched: Enriched) -> tuple[Any, ...]:
    """The fields of Row, in their order."""
    event, is_cut = _fitted(enriched.event)
    envelope, usage, price, error = enriched.envelope, enriched.usage, enriched.price, event.error
    start, end, duration, clamped = enriched.times or times_of(event, envelope.occurred_at)
    said = error or _NO_ERROR
    tokens = usage.tokens
    return (
        envelope.event_id,
        envelope.event_type,
        envelope.occurred_at,
        start,
        end,
        event.model,
        event.model_used or event.model,
        event.status or ("success" if error is None else "error"),
        duration,
        price.cost_text,
        price.cost_status,
        usage.status,
        enriched.tier.source,
        price.price_match,
        price.price_source,
        enriched.enriched_at,
        clamped,
        (price.provider or "unknown")[:MAX_TEXT],
        event.user or "unknown",
        event.username or "",
        enriched.tier.tier[:MAX_TEXT],
        said.type,
        said.code,
        said.message,
        said.traceback if enriched.keep_traceback else "",
        event.request_id or "",
        event.referrer or "",
        event.cache_hit or False,
        event.cache_key or "",
        (event.service_tier or usage.modifiers.get("service_tier", ""))[:MAX_TEXT],
        price.price_model or "",
        price.price_book,
        price.rates_json,
        TokenCounts(*tokens) if any(tokens) else NO_TOKENS,
        Counters(**counters_of(usage)) if usage.counters else NO_COUNTERS,
        enriched.usage_raw,
        enriched.usage_raw_dropped,
        is_cut or envelope.truncated > 0,
        event.trace_id or "",
        event.span_id or "",
        event.sample_rate if event.sample_rate and event.sample_rate < ALL_SENT else ALL_SENT,
        bounded_json(enriched.extra) if enriched.extra else "",
        enriched.dropped_fields,
        enriched.replay_id,
    )


def _fitted(event: Event) -> tuple[Event, bool]:
    """The event with texts cut to what a row stores, and whether any was. Typed events (typed/lines.py) need no cut."""
    if isinstance(event, Struct):
        return event, False
    changes: dict[str, Any] = {
        name: value[:MAX_TEXT]
        for name, value in event
        if type(value) is str and len(value) > MAX_TEXT and name != "usage"  # no text of a usage is stored
    }
    error = event.error
    if error is not None:
        parts = {name: getattr(error, name)[:most] for name, most in _ERROR_LENGTHS if len(getattr(error, name)) > most}
        if parts:
            changes["error"] = error.model_copy(update=parts)
    return (event.model_copy(update=changes), True) if changes else (event, False)


def counters_of(usage: Usage) -> dict[str, int | float]:
    """The counters of a row: those that don't have their column's default."""
    return {
        name: float(count) if name in meters.FRACTIONS else int(count)
        for name, count in usage.counters.items()
        if count != meters.DEFAULTS.get(name, 0)
    }


def price_fields(price: Price) -> dict[str, Any]:
    """The fields of a row that a repricing may change: cost and receipt. Defaults are not left out."""
    return {
        "cost_exact": price.cost_text,
        "cost_status": price.cost_status,
        "price_match": price.price_match,
        "price_model": price.price_model or "",
        "price_source": price.price_source,
        "price_book": price.price_book,
        "price_rates": price.rates_json,
    }


def llm_event_row(enriched: Enriched) -> LlmEventRow:
    """A row of llm_events from an enriched text_generation event."""
    event = cast(TextGeneration, enriched.event)
    row = LlmEventRow(*_common(enriched))
    if event.stream:
        row.stream = True
    if event.organization or event.project or event.environment or event.chat_id:
        row.proxy_metadata = ProxyMetadata(*_caller(event), (event.chat_id or "")[:MAX_TEXT])
    if event.moderation:
        verdicts, row.moderation_flagged = moderation_verdicts(event.moderation)
        row.moderation = bounded_json(verdicts) if verdicts else ""
    response_id = event.response_id[:MAX_TEXT] if event.response_id else ""
    if enriched.short:
        if response_id:
            row.response = Response(response_id)
        for name, default in DEFAULTS.items():
            if getattr(row, name) == default:
                setattr(row, name, UNSET)
        return row
    totals = NO_TOTALS
    if row.tokens is not NO_TOKENS:
        tokens = enriched.usage.tokens
        prompt, total = tokens.prompt, sum(tokens)
        totals = ResponseUsage(prompt, total - prompt, total)
    failed = row.status == "error"
    row.id = row.event_id
    row.message_id = row.request_id or row.event_id
    row.call_type = "completion"
    row.log_event_type = "failed_api_call" if failed else "successful_api_call"
    row.standard_logging_object_status = "failure" if failed else "success"
    row.standard_logging_object_response_time = row.llm_api_duration_ms = row.duration
    row.response = Response(response_id, totals, "chat.completion")
    row.cost = enriched.price.cost_number
    return row


def image_event_row(enriched: Enriched) -> ImageEventRow:
    """A row of image_events from an enriched image_generation event."""
    event = cast(ImageGeneration, enriched.event)
    row = ImageEventRow(*_common(enriched))
    row.organization, row.project, row.environment = _caller(event)
    if event.image_size:
        row.image_size = event.image_size[:MAX_TEXT]
        row.width, row.height = image_dimensions(event.image_size)
    # One image by default, but none for a failed request; pricing does the same.
    row.num_images = (0 if event.failed else 1) if event.num_images is None else event.num_images
    row.quality = (event.quality or "")[:MAX_TEXT]
    row.has_input_image = event.has_input_image or False
    if event.video_seconds:
        row.video_seconds = float(event.video_seconds)
    if event.audio_seconds:
        row.audio_seconds = float(event.audio_seconds)
    if event.characters:
        row.counters = msgspec.structs.replace(row.counters, characters=event.characters)
    return row


def _caller(event: Event) -> tuple[str, str, str]:
    """The event's organization, project and environment; "" for those it doesn't have."""
    return (
        (event.organization or "")[:MAX_TEXT],
        (event.project or "")[:MAX_TEXT],
        (event.environment or "")[:MAX_TEXT],
    )


def image_dimensions(size: str | None) -> tuple[int, int]:
    """Width and height in pixels from "WxH"; zeros if the text has another form."""
    width, _, height = (size or "").lower().partition("x")
    # Ten digits are enough for a column; int() raises for thousands of them.
    if width.isascii() and height.isascii() and width.isdigit() and height.isdigit() and len(width + height) <= 20:
        pixels = int(width), int(height)
        if max(pixels) < 2**32:
            return pixels
    return 0, 0


def moderation_verdicts(moderation: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """A moderation result without text that it may quote (booleans, numbers and short words), and whether it flags.

    It counts as flagged if any `filtered`, `flagged`, `detected` or `blocked` in it is true.
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


def bounded_json(value: Any) -> str:
    """JSON text of at most MAX_EXTRA bytes; of a larger value only the keys; "" if those are too large as well."""
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_EXTRA:
        encoded = orjson.dumps({"too_large": sorted(str(key)[:64] for key in value)[:32]})
    return encoded.decode() if len(encoded) <= MAX_EXTRA else ""
