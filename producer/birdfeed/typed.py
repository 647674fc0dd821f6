"""Types for type checkers: the fields of each event type, and the settings of configure().

Tests compare them with the models (birdfeed_schemas.fields, ProducerSettings). They check nothing at run time.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NewType, TypeAlias, TypedDict

#: The name of an event type that another package registered, or that is known only at run time:
#: `track_event(EventType("audio_generation"), {...})`. Its fields are not checked.
EventType = NewType("EventType", str)

#: ISO 8601 text, seconds or milliseconds since 1970, or a datetime (without a zone it is local time).
Time: TypeAlias = datetime | str | float
Identifier: TypeAlias = str | int
Number: TypeAlias = float | Decimal | str
Error: TypeAlias = BaseException | str | Mapping[str, Any]


class ContextFields(TypedDict, total=False):
    """The fields that birdfeed.context() takes: those of every event type that are known before a model is called."""

    user: Identifier | None
    username: str | None
    tier: str | None
    request_id: Identifier | None
    environment: str | None
    organization: Identifier | None
    project: Identifier | None
    referrer: str | None
    trace_id: Identifier | None
    span_id: Identifier | None


class _CommonFields(ContextFields, total=False):
    """The fields of every event type, in each accepted spelling."""

    model: str
    model_used: str | None
    provider: str | None
    start_time: Time | None
    end_time: Time | None
    duration: float | None
    status: Literal["success", "error"] | None
    error: Error | None
    cache_hit: bool | None
    cache_key: Identifier | None
    service_tier: str | None
    cost: Number | None
    sample_rate: float | None
    usage: Any
    idempotency_key: Identifier | None

    modelRequested: str
    model_requested: str
    modelUsed: str | None
    userId: Identifier | None
    user_id: Identifier | None
    userName: str | None
    user_name: str | None
    userTier: str | None
    user_tier: str | None
    startTime: Time | None
    endTime: Time | None
    durationMs: float | None
    duration_ms: float | None
    requestId: Identifier | None
    cacheHit: bool | None
    cacheKey: Identifier | None
    serviceTier: str | None
    traceId: Identifier | None
    spanId: Identifier | None
    sampleRate: float | None
    usageMetadata: Any
    usage_metadata: Any


class TextGenerationFields(_CommonFields, total=False):
    """The fields of a `text_generation` event; duration is in milliseconds, cost in USD."""

    stream: bool | None
    response_id: Identifier | None
    chat_id: Identifier | None
    moderation: Any

    responseId: Identifier | None
    chatId: Identifier | None


class ImageGenerationFields(_CommonFields, total=False):
    """The fields of an `image_generation` event; image_size is "WxH" in pixels, the others are as for text."""

    image_size: str | None
    num_images: int | None
    quality: str | None
    has_input_image: bool | None
    video_seconds: Number | None
    audio_seconds: Number | None
    characters: int | None

    imageSize: str | None
    numImages: int | None
    hasInputImage: bool | None
    videoSeconds: Number | None
    audioSeconds: Number | None


class SettingsFields(TypedDict, total=False):
    """The settings that configure() takes as arguments; docs/reference/settings.md explains each."""

    redis_url: str | None
    queue: str
    key_prefix: str
    wait_replicas: int
    extra_fields: str
    enabled: bool
    flush_interval: float
    batch_events: int
    batch_bytes: int
    buffer_events: int
    buffer_bytes: int
    max_event_bytes: int
    max_depth: int
    max_items: int
    max_text: int
    drop_policy: Literal["newest", "oldest"]
    durability: Literal["buffer", "spool"]
    spool_dir: str | os.PathLike[str] | None
    spool_wait: float
    spool_bytes: int
    spool_drain_rate: float
    user_hmac_key: str | None
    hmac_fields: str
    error_message: Literal["full", "redacted", "none"]
    referrer: Literal["host", "path"]
    keep_traceback: bool
    close_timeout: float
    sigterm_hook: bool
    environment: str
    project: str
    organization: str
    redis_timeout: float
    compression: int
    sample: Mapping[str, float] | str
    sample_errors: bool
