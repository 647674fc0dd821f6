"""What Tinybird stores: one model per data source, nested as the JSON is, and the functions that make the rows.

A row for llm_events also lands, without quarantine, in the llm_events of Tinybird's own LLM template: the JSON keeps
that template's paths where it has a column, and start_time, end_time, message_id and response.id, which have no
default there, are always present. The models are the truth the data sources are tested against; rows themselves are
built as plain dicts, because a worker makes tens of thousands a second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

from birdfeed_schemas.envelope import Envelope, format_time
from birdfeed_schemas.events import Event, ImageGeneration, TextGeneration
from birdfeed_schemas.facts import Price, Tier, Tokens, Usage

#: A start_time further from occurred_at than this is clamped: clocks that are wrong, epochs in the wrong unit.
MAX_CLOCK_AHEAD: Final = timedelta(hours=1)
MAX_DURATION: Final = timedelta(days=7)
#: Characters kept of an error's message and traceback: they can hold parts of prompts.
MAX_ERROR_MESSAGE: Final = 1_000
MAX_TRACEBACK: Final = 8_000
#: Bytes of JSON kept of the extra fields an operator allowed, and of moderation results.
MAX_EXTRA: Final = 4_096
#: Characters kept of any other text.
MAX_TEXT: Final = 512


class Times(NamedTuple):
    """Start and end (UTC), duration in ms, and whether something of it had to be clamped."""

    start: datetime
    end: datetime
    duration: float
    clamped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enriched:
    """A valid event with all that a row is made of. `enriched_at` (UTC) is the worker's clock, the row's version.

    `extra` holds the fields the operator allowed by name; `dropped_fields` counts what is not stored;
    `replay_id` is set on replayed events; `times` is what times() says of the event, computed here if left out.
    """

    envelope: Envelope
    event: Event
    usage: Usage
    price: Price
    tier: Tier
    enriched_at: datetime
    extra: Mapping[str, Any]
    dropped_fields: int = 0
    replay_id: str = ""
    keep_traceback: bool = False
    times: Times | None = None


class TokenCounts(BaseModel):
    """Tokens by class; disjoint, they sum to the totals."""

    model_config = ConfigDict(extra="forbid")

    prompt_text: int
    prompt_cached: int
    prompt_cache_write: int
    prompt_audio: int
    prompt_image: int
    completion_text: int
    completion_reasoning: int
    completion_audio: int
    completion_image: int


class Row(BaseModel):
    """What the rows of every data source have. Times are UTC text, cost is USD, duration milliseconds.

    cost is a plain number for the existing Float32 column, cost_exact the same as exact text for our Decimal column.
    """

    model_config = ConfigDict(extra="forbid")

    event_id: str
    event_type: str
    occurred_at: str
    start_time: str
    end_time: str
    time_clamped: bool
    model: str
    model_used: str
    provider: str
    user: str
    username: str
    tier: str
    tier_source: str
    status: str
    error_type: str
    error_code: str
    exception: str
    traceback: str
    duration: float
    request_id: str
    referrer: str
    cache_hit: bool
    cache_key: str
    service_tier: str
    cost: float
    cost_exact: str
    cost_status: str
    usage_status: str
    price_match: str
    price_model: str
    price_source: str
    price_book: str
    price_rates: str
    tokens: TokenCounts
    extra: str
    dropped_fields: int
    enriched_at: str
    replay_id: str


class ProxyMetadata(BaseModel):
    """Where the template keeps what belongs to the caller."""

    model_config = ConfigDict(extra="forbid")

    organization: str
    project: str
    environment: str
    chat_id: str


class ResponseUsage(BaseModel):
    """Totals as the template has them."""

    model_config = ConfigDict(extra="forbid")

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Response(BaseModel):
    """The answer, without its content."""

    model_config = ConfigDict(extra="forbid")

    id: str
    object: str
    usage: ResponseUsage


class LlmEventRow(Row):
    """A row of llm_events, from text_generation."""

    id: str
    message_id: str
    call_type: str
    log_event_type: str
    stream: bool
    standard_logging_object_status: str
    standard_logging_object_response_time: float
    llm_api_duration_ms: float
    proxy_metadata: ProxyMetadata
    response: Response
    moderation: str
    moderation_flagged: bool


class ImageEventRow(Row):
    """A row of image_events, from image_generation."""

    environment: str
    organization: str
    project: str
    image_size: str
    width: int
    height: int
    num_images: int
    quality: str
    has_input_image: bool
    video_seconds: float
    audio_seconds: float


def common(enriched: Enriched) -> dict[str, Any]:
    """The part of a row that every data source has (the fields of Row)."""
    envelope, event, price = enriched.envelope, enriched.event, enriched.price
    start, end, duration, clamped = enriched.times or times_of(event, envelope.occurred_at)
    error = event.error
    return {
        "event_id": envelope.event_id,
        "event_type": envelope.event_type,
        "occurred_at": format_time(envelope.occurred_at),
        "start_time": format_time(start),
        "end_time": format_time(end),
        "time_clamped": clamped,
        "model": event.model[:MAX_TEXT],
        "model_used": _text(event.model_used or event.model),
        "provider": _text(price.provider) or "unknown",
        "user": _text(event.user) or "unknown",
        "username": _text(event.username),
        "tier": _text(enriched.tier.tier),
        "tier_source": enriched.tier.source,
        "status": "error" if event.failed else "success",
        "error_type": "" if error is None else error.type[:MAX_TEXT],
        "error_code": "" if error is None else error.code[:MAX_TEXT],
        "exception": "" if error is None else error.message[:MAX_ERROR_MESSAGE],
        "traceback": error.traceback[:MAX_TRACEBACK] if error is not None and enriched.keep_traceback else "",
        "duration": duration,
        "request_id": _text(event.request_id),
        "referrer": _text(event.referrer),
        "cache_hit": bool(event.cache_hit),
        "cache_key": _text(event.cache_key),
        "service_tier": _text(event.service_tier),
        "usage_status": enriched.usage.status,
        **price_fields(price),
        "tokens": token_counts(enriched.usage.tokens),
        "extra": bounded_json(enriched.extra) if enriched.extra else "",
        "dropped_fields": enriched.dropped_fields,
        "enriched_at": format_time(enriched.enriched_at),
        "replay_id": enriched.replay_id,
    }


def price_fields(price: Price) -> dict[str, Any]:
    """The part of a row that says what an event cost and why; all that a later price may change."""
    return {
        "cost": float(price.cost),
        "cost_exact": format(price.cost, "f"),
        "cost_status": price.cost_status,
        "price_match": price.price_match,
        "price_model": price.price_model or "",
        "price_source": price.price_source,
        "price_book": price.price_book,
        "price_rates": orjson.dumps(price.rates).decode() if price.rates else "",
    }


def llm_event_row(enriched: Enriched) -> dict[str, Any]:
    """A row of llm_events from an enriched text_generation event."""
    event = enriched.event
    assert isinstance(event, TextGeneration)
    row = common(enriched)
    tokens = enriched.usage.tokens
    prompt, completion = tokens.prompt, tokens.completion
    row["id"] = enriched.envelope.event_id
    row["message_id"] = row["request_id"] or enriched.envelope.event_id
    row["call_type"] = "completion"
    row["log_event_type"] = "failed_api_call" if event.failed else "successful_api_call"
    row["stream"] = bool(event.stream)
    row["standard_logging_object_status"] = "failure" if event.failed else "success"
    row["standard_logging_object_response_time"] = row["duration"]
    row["llm_api_duration_ms"] = row["duration"]
    row["proxy_metadata"] = {
        "organization": _text(event.organization),
        "project": _text(event.project),
        "environment": _text(event.environment),
        "chat_id": _text(event.chat_id),
    }
    row["response"] = {
        "id": _text(event.response_id),
        "object": "chat.completion",
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }
    verdicts, flagged = moderation_verdicts(event.moderation)
    row["moderation"] = bounded_json(verdicts) if verdicts else ""
    row["moderation_flagged"] = flagged
    return row


def image_event_row(enriched: Enriched) -> dict[str, Any]:
    """A row of image_events from an enriched image_generation event."""
    event = enriched.event
    assert isinstance(event, ImageGeneration)
    row = common(enriched)
    width, height = image_dimensions(event.image_size)
    row["environment"] = _text(event.environment)
    row["organization"] = _text(event.organization)
    row["project"] = _text(event.project)
    row["image_size"] = _text(event.image_size)
    row["width"] = width
    row["height"] = height
    # One by default, but not for a request that gave none; priced alike.
    row["num_images"] = (0 if event.failed else 1) if event.num_images is None else event.num_images
    row["quality"] = _text(event.quality)
    row["has_input_image"] = bool(event.has_input_image)
    row["video_seconds"] = 0.0 if event.video_seconds is None else float(event.video_seconds)
    row["audio_seconds"] = 0.0 if event.audio_seconds is None else float(event.audio_seconds)
    return row


def times_of(event: Event, occurred_at: datetime) -> Times:
    """The times of an event that was tracked at `occurred_at`."""
    return times(occurred_at, event.start_time, event.end_time, event.duration)


def times(occurred_at: datetime, start: datetime | None, end: datetime | None, duration: float | None) -> Times:
    """Start, end, duration in ms, and whether something had to be clamped.

    What is missing follows from the rest: start from end or occurred_at minus the duration, end from start plus the
    duration. occurred_at is our own clock; a start or end more than MAX_CLOCK_AHEAD after it or MAX_DURATION before
    it can't be true and is replaced by what occurred_at and the duration say.
    """
    clamped = False
    latest, earliest = occurred_at + MAX_CLOCK_AHEAD, occurred_at - MAX_DURATION
    if end is not None and not earliest <= end <= latest:
        end, clamped = None, True
    if start is not None and not earliest <= start <= latest:
        start, clamped = None, True
    if duration is not None and duration > MAX_DURATION / timedelta(milliseconds=1):
        duration, clamped = None, True
    if start is not None and end is not None and end < start:
        end, clamped = None, True
    if duration is None:
        duration = max(0.0, ((end or occurred_at) - start) / timedelta(milliseconds=1)) if start is not None else 0.0
    length = timedelta(milliseconds=duration)
    if start is None:
        start = (end or occurred_at) - length
    if end is None:
        end = start + length
    return Times(start, end, duration, clamped)


def image_dimensions(size: str | None) -> tuple[int, int]:
    """Width and height in pixels from "WxH"; zeros where the text says something else."""
    width, _, height = (size or "").lower().partition("x")
    if width.isascii() and height.isascii() and width.isdigit() and height.isdigit():
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
    """Tokens as they stand in a row."""
    return {
        "prompt_text": tokens.prompt_text,
        "prompt_cached": tokens.prompt_cached,
        "prompt_cache_write": tokens.prompt_cache_write,
        "prompt_audio": tokens.prompt_audio,
        "prompt_image": tokens.prompt_image,
        "completion_text": tokens.completion_text,
        "completion_reasoning": tokens.completion_reasoning,
        "completion_audio": tokens.completion_audio,
        "completion_image": tokens.completion_image,
    }


def bounded_json(value: Any) -> str:
    """JSON text of at most MAX_EXTRA bytes; a larger value is replaced by the names of its keys, then by nothing."""
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_EXTRA:
        encoded = orjson.dumps({"too_large": sorted(str(key)[:64] for key in value)[:32]})
    return encoded.decode() if len(encoded) <= MAX_EXTRA else ""


def _text(value: str | None) -> str:
    return value[:MAX_TEXT] if value else ""
