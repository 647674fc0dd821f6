"""The names that a handler may use for an event's fields, without pydantic.

`track_event` runs in a request handler, so it must drop what birdfeed doesn't store (prompts, messages, images) before
the event is serialised, and must do so without importing the models. A test compares these names with the models in
events.py.
"""

from collections.abc import Mapping
from typing import Final

#: The fields of every event type, each with the other spellings that are accepted for it.
COMMON: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("modelRequested", "model_requested"),
    "model_used": ("modelUsed",),
    "provider": (),
    "user": ("userId", "user_id"),
    "username": ("userName", "user_name"),
    "tier": ("userTier", "user_tier"),
    "start_time": ("startTime",),
    "end_time": ("endTime",),
    "duration": ("durationMs", "duration_ms"),
    "status": (),
    "error": (),
    "request_id": ("requestId",),
    "environment": (),
    "organization": (),
    "project": (),
    "referrer": (),
    "cache_hit": ("cacheHit",),
    "cache_key": ("cacheKey",),
    "service_tier": ("serviceTier",),
    "cost": (),
    "trace_id": ("traceId",),
    "span_id": ("spanId",),
    "sample_rate": ("sampleRate",),
    "usage": ("usageMetadata", "usage_metadata"),
}

TEXT_GENERATION: Final[Mapping[str, tuple[str, ...]]] = {
    **COMMON,
    "stream": (),
    "response_id": ("responseId",),
    "chat_id": ("chatId",),
    "moderation": (),
}

IMAGE_GENERATION: Final[Mapping[str, tuple[str, ...]]] = {
    **COMMON,
    "image_size": ("imageSize",),
    "num_images": ("numImages",),
    "quality": (),
    "has_input_image": ("hasInputImage",),
    "video_seconds": ("videoSeconds",),
    "audio_seconds": ("audioSeconds",),
    "characters": (),
}


def spellings(fields: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Map every accepted spelling of a field to the field's own name."""
    names = {alias: name for name, aliases in fields.items() for alias in aliases}
    names.update({name: name for name in fields})
    return names


#: Event type → accepted spelling → field name, for the types that birdfeed ships. For all types: registry.registry().
SPELLINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "text_generation": spellings(TEXT_GENERATION),
    "image_generation": spellings(IMAGE_GENERATION),
}

#: Accepted spelling → field name, for an unknown event type (it becomes a dead letter): those of all types together.
ANY_TYPE: Final[Mapping[str, str]] = {**SPELLINGS["text_generation"], **SPELLINGS["image_generation"]}
