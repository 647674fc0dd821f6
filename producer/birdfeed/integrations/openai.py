"""OpenAI's SDK: an event for each request of a client, without changes to the code that calls it.

    from birdfeed.integrations.openai import instrument

    client = instrument(OpenAI())  # or AsyncOpenAI, AzureOpenAI, or any server that speaks OpenAI's API

Chat completions, responses, completions and embeddings are `text_generation`; images, speech and transcriptions are
`image_generation`. A request that the SDK retries is one event. Nothing of the prompt or the answer is kept.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from birdfeed.integrations.sdk_calls import Call, Read, instrument_requests
from birdfeed.tracking.track import TrackedEvent

Client = TypeVar("Client")

#: The end of a server's host name → the provider. For other servers, the worker finds it by the model's name.
_PROVIDERS: Final[Mapping[str, str]] = {
    "openai.com": "openai",
    "azure.com": "azure",
    "azure.us": "azure",
    "amazonaws.com": "aws",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "vertex",
    "api.anthropic.com": "anthropic",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.deepseek.com": "deepseek",
    "api.mistral.ai": "mistral",
    "api.x.ai": "xai",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "aliyuncs.com": "alibaba",
}
#: The service tiers a request may ask for whose prices differ from the standard tier's.
_PRICED_TIERS: Final = frozenset({"flex", "priority", "scale"})
#: The last events of a streamed response or transcript; and those of a streamed image.
_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "transcript.text.done"})
_LAST_IMAGE: Final = frozenset({"image_generation.completed", "image_edit.completed"})


def instrument(client: Client, *, include_usage: bool = False, provider: str | None = None) -> Client:
    """Send an event for each request made by this client, or by one made with its with_options(), from now on.

    Args:
        client: An OpenAI, AsyncOpenAI, AzureOpenAI or AsyncAzureOpenAI.
        include_usage: Request the usage of streamed chat completions and completions, which OpenAI sends only on
            request. The extra chunk that holds it is not passed on to the program, which would not expect it.
        provider: The provider of the models; None takes it from the client's URL if that is known.

    Returns:
        The same client.

    Raises:
        TypeError: `client` is not one of OpenAI's clients.
    """
    if not any(kind.__module__.partition(".")[0] == "openai" for kind in type(client).__mro__):
        raise TypeError(f"instrument() takes a client of the openai package, not {type(client).__name__}")
    seller = provider if provider is not None else _provider_of(client)

    def begin(cast_to: object, options: Any, **kwargs: Any) -> Call | None:
        return _begin(options, seller, include_usage)

    def again(made: Any) -> Any:
        return instrument(made, include_usage=include_usage, provider=provider)

    instrument_requests(client, begin, again)
    return client


def _provider_of(client: Any) -> str | None:
    if any("Azure" in kind.__name__ for kind in type(client).__mro__):
        return "azure"
    host = str(getattr(client.base_url, "host", ""))
    return next((name for end, name in _PROVIDERS.items() if host == end or host.endswith("." + end)), None)


def _begin(options: Any, provider: str | None, include_usage: bool) -> Call | None:
    """The event of a request; None for a request that is not to a model."""
    path = str(options.url)
    if str(options.method).lower() != "post" or path not in _READERS:
        return None
    body: Mapping[str, Any] = options.json_data if isinstance(options.json_data, Mapping) else {}
    event_type, read = _READERS[path]
    stream = body.get("stream") is True
    tier = body.get("service_tier")
    fields = {
        "model": body.get("model"),
        "provider": provider,
        "user": body.get("user") or body.get("safety_identifier"),
        "service_tier": tier if tier in _PRICED_TIERS else None,
    }
    if event_type == "text_generation":
        fields["stream"] = stream
        fields["chat_id"] = _id_of(body.get("conversation"))
    elif path.startswith("/images"):
        fields.update(image_size=_size(body.get("size")), quality=_named(body.get("quality")))
        fields["has_input_image"] = path != "/images/generations"
    elif path == "/audio/speech" and isinstance(body.get("input"), str):
        fields["characters"] = len(body["input"])
    hides = None
    if include_usage and stream and read is _chat and not body.get("stream_options"):
        options.json_data = {**body, "stream_options": {"include_usage": True}}
        hides = _is_usage_alone
    return Call(event_type, fields, read, hides)


def _is_usage_alone(part: Any) -> bool:
    return not part.choices and part.usage is not None


def _common(event: TrackedEvent, answer: Any) -> None:
    for name, field in (("model", "model_used"), ("id", "response_id"), ("service_tier", "service_tier")):
        value = getattr(answer, name, None)
        if isinstance(value, str) and value:
            event[field] = value
    if (usage := getattr(answer, "usage", None)) is not None:
        event["usage"] = usage


def _chat(event: TrackedEvent, answer: Any) -> bool:
    """Read a completion, a chunk of one, or an embedding."""
    _common(event, answer)
    groq = getattr(answer, "x_groq", None)
    if isinstance(groq, Mapping) and groq.get("usage"):
        event["usage"] = groq["usage"]
    return any(getattr(choice, "finish_reason", None) for choice in getattr(answer, "choices", None) or ())


def _response(event: TrackedEvent, answer: Any) -> bool:
    """Read a response, or an event of a streamed one, which holds the response so far."""
    whole = getattr(answer, "response", answer)
    _common(event, whole)
    if (chat_id := _id_of(getattr(whole, "conversation", None))) is not None:
        event["chat_id"] = chat_id
    if getattr(whole, "status", None) == "failed":
        error = getattr(whole, "error", None)
        event["status"] = "error"
        event["error"] = {"type": "response_failed", "code": getattr(error, "code", None)}
    return getattr(answer, "type", None) in _LAST


def _images(event: TrackedEvent, answer: Any) -> bool:
    """Read images, or an event of a streamed one."""
    if (usage := getattr(answer, "usage", None)) is not None:
        event["usage"] = usage
    if (size := _size(getattr(answer, "size", None))) is not None:
        event["image_size"] = size
    if (quality := _named(getattr(answer, "quality", None))) is not None:
        event["quality"] = quality
    if isinstance(images := getattr(answer, "data", None), list):
        event["num_images"] = len(images)
    last = getattr(answer, "type", None) in _LAST_IMAGE
    if last:
        event["num_images"] = event.get("num_images", 0) + 1
    return last


def _audio(event: TrackedEvent, answer: Any) -> bool:
    """Read a transcript, or an event of a streamed one. (Generated speech is only bytes, which hold no usage.)"""
    usage = getattr(answer, "usage", None)
    if usage is not None:
        event["usage"] = usage
        if getattr(usage, "type", None) == "duration":
            event["audio_seconds"] = usage.seconds
    return getattr(answer, "type", None) in _LAST


def _size(size: object) -> str | None:
    """ "1024x1024"; None for "auto"."""
    return size if isinstance(size, str) and "x" in size else None


def _named(word: object) -> str | None:
    return word if isinstance(word, str) and word != "auto" else None


def _id_of(conversation: Any) -> str | None:
    """The id of a conversation, which is given as an id or as an object."""
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    found = getattr(conversation, "id", conversation)
    return found if isinstance(found, str) else None


#: Path → the event's type, and the function that reads the answer.
_READERS: Final[Mapping[str, tuple[str, Read]]] = {
    "/chat/completions": ("text_generation", _chat),
    "/completions": ("text_generation", _chat),
    "/embeddings": ("text_generation", _chat),
    "/responses": ("text_generation", _response),
    "/responses/compact": ("text_generation", _response),
    "/images/generations": ("image_generation", _images),
    "/images/edits": ("image_generation", _images),
    "/images/variations": ("image_generation", _images),
    "/audio/speech": ("image_generation", _audio),
    "/audio/transcriptions": ("image_generation", _audio),
    "/audio/translations": ("image_generation", _audio),
}
