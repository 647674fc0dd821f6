"""LiteLLM: an event for each call of its SDK or its proxy.

    litellm.callbacks = [BirdfeedLogger()]                          # the SDK

    litellm_settings:                                               # the proxy's config.yaml
      callbacks: birdfeed.integrations.litellm.birdfeed_logger

Completions, responses, messages, embeddings and reranks are `text_generation`; images, videos, speech and transcripts
are `image_generation`. The worker computes a call's cost from its own price book, not LiteLLM's. Nothing of the prompt
or the answer is kept.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger

from birdfeed import api
from birdfeed.encoding.redact import AnswerText
from birdfeed.logging_once import error_location, log_throttled
from birdfeed.request_context import inherited, merged
from birdfeed.typed import EventType

#: LiteLLM's call types that call a model. Asynchronous ones, such as `aimage_edit`, have an `a` in front.
_TEXT: Final = frozenset(
    {
        *("completion", "text_completion", "embedding", "rerank", "responses", "anthropic_messages"),
        *("generate_content", "generate_content_stream", "pass_through_endpoint"),
    }
)
_MEDIA: Final = frozenset(
    {"image_generation", "image_edit", "speech", "transcription", "create_video", "video_generation"}
)
#: Running calls → the fields their events inherit; and how many are kept at most, because some may never end.
_begun: Final[dict[str, Mapping[str, Any]]] = {}
_MOST_BEGUN: Final = 10_000
#: Field → its names in LiteLLM's metadata; the first that is set is used.
_METADATA: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user_api_key_end_user_id", "user_api_key_user_id"),
    "organization": ("user_api_key_org_id", "user_api_key_team_id"),
    "project": ("user_api_key_project_id",),
}


class BirdfeedLogger(CustomLogger):
    """LiteLLM's callback. It never raises, and keeps nothing of prompts and answers."""

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """A call begins. Keep its context: LiteLLM calls back later from threads that may not inherit it."""
        fields = inherited.get()
        if fields is not None and isinstance(kwargs, Mapping):
            while len(_begun) >= _MOST_BEGUN:
                _begun.pop(next(iter(_begun), ""), None)
            _begun[str(kwargs.get("litellm_call_id"))] = fields

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call of the synchronous SDK succeeded; a streamed one has ended."""
        _track(kwargs, response_obj, start_time, end_time, failed=False)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call of the synchronous SDK failed."""
        _track(kwargs, response_obj, start_time, end_time, failed=True)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call of the asynchronous SDK, or of the proxy, succeeded."""
        _track(kwargs, response_obj, start_time, end_time, failed=False)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call of the asynchronous SDK, or of the proxy, failed."""
        _track(kwargs, response_obj, start_time, end_time, failed=True)


def _track(kwargs: Any, response: Any, start: Any, end: Any, *, failed: bool) -> None:
    try:
        payload = kwargs.get("standard_logging_object")
        payload = payload if isinstance(payload, Mapping) else {}
        event_type = _type_of(str(payload.get("call_type") or kwargs.get("call_type") or ""))
        if event_type is not None:
            event = _event_of(kwargs, payload, response, event_type)
            event |= _times(payload, start, end)
            event["status"] = "error" if failed else "success"
            if failed:
                event["error"] = _error_of(payload.get("error_information"), kwargs.get("exception"))
            given = {name: value for name, value in event.items() if value not in (None, "")}
            fields = _begun.pop(str(kwargs.get("litellm_call_id")), None) or inherited.get() or {}
            if fields.get("request_id"):
                given.pop("request_id", None)  # the program's id is more useful than LiteLLM's id of the call
            api.track_own(EventType(event_type), merged(fields, given))
    except Exception as error:  # an incompatible version of LiteLLM
        log_throttled(logging.ERROR, "litellm", "a call of LiteLLM could not be read: %s", error_location(error))


def _type_of(call_type: str) -> str | None:
    name = call_type.lstrip("_")
    for known in (name, name.removeprefix("a")):
        if known in _TEXT:
            return "text_generation"
        if known in _MEDIA:
            return "image_generation"
    return None


def _event_of(kwargs: Any, payload: Mapping[str, Any], response: Any, event_type: str) -> dict[str, Any]:
    metadata = payload.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    event: dict[str, Any] = {
        "model": payload.get("model") or kwargs.get("model") or "unknown",
        "model_used": _of(response, "model"),
        "provider": payload.get("custom_llm_provider") or kwargs.get("custom_llm_provider"),
        "request_id": payload.get("litellm_call_id") or kwargs.get("litellm_call_id"),
        "usage": _of(response, "usage") or metadata.get("usage_object") or None,
        "service_tier": _of(response, "service_tier"),
        "cache_hit": True if payload.get("cache_hit") is True else None,
        "user": payload.get("end_user") or _of(payload.get("model_parameters"), "user"),
    }
    for field, names in _METADATA.items():
        event[field] = event.get(field) or next((metadata[name] for name in names if metadata.get(name)), None)
    if event_type == "text_generation":
        event["stream"] = bool(payload.get("stream") or kwargs.get("stream"))
        event["response_id"] = _of(response, "id")
        event["chat_id"] = payload.get("session_id")
    elif isinstance(images := _of(response, "data"), list):
        event["num_images"] = len(images)
    return event


def _of(response: Any, name: str) -> Any:
    return response.get(name) if isinstance(response, Mapping) else getattr(response, name, None)


def _times(payload: Mapping[str, Any], start: Any, end: Any) -> dict[str, Any]:
    """When the call began and ended. LiteLLM's own times are local, without a zone; its payload has epoch seconds."""
    times = []
    for name, given in (("startTime", start), ("endTime", end)):
        at = payload.get(name)
        if not isinstance(at, int | float) or at <= 0:
            at = given.timestamp() if isinstance(given, datetime) else None
        times.append(at)
    began, ended = times
    duration = max(0.0, (ended - began) * 1000) if began is not None and ended is not None else None
    return {"start_time": began, "end_time": ended, "duration": duration}


def _error_of(information: Any, raised: Any) -> dict[str, Any] | BaseException | None:
    if not isinstance(information, Mapping):
        return raised if isinstance(raised, BaseException) else {"type": "error"}
    names = {"type": "error_class", "code": "error_code"}
    error = {name: information[source] for name, source in names.items() if information.get(source)}
    if message := information.get("error_message"):
        error["message"] = AnswerText(message)  # LiteLLM's own text, followed by the provider's
    return error


#: For the proxy's configuration, which must name an object.
birdfeed_logger: Final = BirdfeedLogger()
