"""OpenTelemetry: an event for each span of a call to a model, whichever library made the span.

    from birdfeed.integrations.opentelemetry import BirdfeedSpanProcessor

    provider.add_span_processor(BirdfeedSpanProcessor())

It reads the semantic conventions for generative AI: the current ones and older ones (gen_ai.system, prompt_tokens,
llm.request.type). Spans of agents, workflows and tools are ignored: the model calls they make have spans of their own.
A span that was not sampled makes no event. Nothing of the prompts and answers in spans is kept.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from birdfeed import api
from birdfeed.encoding.redact import AnswerText
from birdfeed.logging_once import error_location, log_throttled
from birdfeed.typed import EventType

#: Operations that call a model; "" stands for spans from before operation names existed.
_TEXT: Final = frozenset({"", "chat", "completion", "text_completion", "generate_content", "embeddings", "embedding"})
_IMAGE: Final = frozenset({"image_generation", "generate_image", "image"})
#: Field → the attributes it is read from, the current name first.
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("gen_ai.request.model", "llm.request.model", "gen_ai.response.model"),
    "model_used": ("gen_ai.response.model", "llm.response.model"),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.vendor"),
    "service_tier": (
        *("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
        *("openai.request.service_tier", "gen_ai.openai.request.service_tier"),
    ),
    "user": ("user.id", "enduser.id", "gen_ai.request.user", "llm.user"),
}
_TEXT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "response_id": ("gen_ai.response.id",),
    "chat_id": ("gen_ai.conversation.id",),
    "stream": ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming"),
}
_ENVIRONMENT: Final = ("deployment.environment.name", "deployment.environment")
_USAGE: Final = ("gen_ai.usage.", "llm.usage.")
#: Operations whose input no provider caches.
_UNCACHED: Final = frozenset({"embeddings", "embedding"})
_CACHE_NOT_REPORTED: Final = "birdfeed.cache_not_reported"


class BirdfeedSpanProcessor(SpanProcessor):
    """Tracks an event at the end of each span of a call to a model. It exports and keeps no spans."""

    def on_end(self, span: ReadableSpan) -> None:
        """Track an event if the span is of a call to a model; never raises."""
        try:
            attributes = span.attributes or {}
            event_type = _type_of(attributes)
            if event_type is not None:
                api.track_event(EventType(event_type), _event_of(span, attributes, event_type))
        except Exception as error:  # not the form of the SDK's spans
            log_throttled(logging.ERROR, "span", "a span could not be read: %s", error_location(error))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send the buffered events; returns whether all of them are in Redis or on disk."""
        return api.flush(timeout_millis / 1000)


def _type_of(attributes: Mapping[str, Any]) -> str | None:
    operation = str(attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type") or "")
    if _first(attributes, _FIELDS["model"]) is None or _first(attributes, _FIELDS["provider"]) is None:
        return None
    if operation in _IMAGE or (operation in _TEXT and attributes.get("gen_ai.output.type") == "image"):
        return "image_generation"
    return "text_generation" if operation in _TEXT else None


def _first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((attributes[name] for name in names if attributes.get(name) not in (None, "")), None)


def _event_of(span: ReadableSpan, attributes: Mapping[str, Any], event_type: str) -> dict[str, Any]:
    wanted = {**_FIELDS, **_TEXT_FIELDS} if event_type == "text_generation" else _FIELDS
    event = {field: _first(attributes, names) for field, names in wanted.items()}
    event["environment"] = _first(span.resource.attributes, _ENVIRONMENT)
    event["usage"] = _usage_of(attributes)
    if span.start_time is not None and span.end_time is not None:
        event["start_time"] = span.start_time / 1e9
        event["end_time"] = span.end_time / 1e9
        event["duration"] = (span.end_time - span.start_time) / 1e6
    if span.context is not None:
        event["trace_id"] = format(span.context.trace_id, "032x")
        event["span_id"] = format(span.context.span_id, "016x")
    failed = span.status.status_code is StatusCode.ERROR
    event["status"] = "error" if failed else "success"
    if failed:
        event["error"] = _error_of(span, attributes)
    return {field: value for field, value in event.items() if value is not None}


def _usage_of(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The span's token counts. If it doesn't say how much of the input came from a cache, its cost will be "partial".

    (This adds a number under a name that no format reads, and unread numbers make a usage incomplete.)
    """
    usage = {name: count for name, count in attributes.items() if name.startswith(_USAGE)}
    is_cached = attributes.get("gen_ai.operation.name") not in _UNCACHED
    if usage and is_cached and not any("cache" in name for name in usage):
        usage[_CACHE_NOT_REPORTED] = 1
    return usage or None


def _error_of(span: ReadableSpan, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The span's error; `error.type` is an exception's name, or the code of the answer."""
    raised: Mapping[str, Any] = next(
        (one.attributes or {} for one in reversed(span.events) if one.name == "exception"), {}
    )
    kind = str(attributes.get("error.type") or raised.get("exception.type") or "error")
    message = raised.get("exception.message") or span.status.description
    # The names of Python's own exceptions have no module in front; messages of others may repeat a server's answer.
    own = "." not in str(raised.get("exception.type") or ".")
    error = {"type": kind, "message": message if own or message is None else AnswerText(message)}
    code = attributes.get("http.response.status_code") or (kind if kind.isdigit() else None)
    return {name: value for name, value in {**error, "code": code}.items() if value is not None}
