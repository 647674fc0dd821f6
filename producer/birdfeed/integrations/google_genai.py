"""Google's Gen AI SDK: an event for each request of a client, with the Gemini API and with Vertex AI.

    from birdfeed.integrations.google_genai import instrument

    client = instrument(genai.Client())  # client.aio too, and its chats

generate_content and embeddings are `text_generation`; image models, and generate_images, edit_image and upscale_image,
are `image_generation`. When the SDK calls functions automatically, each of its requests is an event, because each is
billed. Videos, live sessions and interactions are not followed. Nothing of the prompt or the answer is kept.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from birdfeed.integrations.sdk_calls import Call, followed
from birdfeed.tracking.track import TrackedEvent

Client = TypeVar("Client")

#: The methods by which each request to a model is made, including those that the SDK makes in its own loops.
_METHODS: Final = (
    *("_generate_content", "_generate_content_stream", "_embed_content"),
    *("_generate_images", "_edit_image", "_upscale_image"),
)


def instrument(client: Client, *, provider: str | None = None) -> Client:
    """Send an event for each request that this client makes to a model from now on.

    Args:
        client: A google.genai.Client.
        provider: The provider of the models; None means "vertex" or "google", depending on the client.

    Returns:
        The same client.

    Raises:
        TypeError: `client` is not such a client, or this version of the SDK makes its requests in an unknown way.
    """
    models = [getattr(client, "models", None), getattr(getattr(client, "aio", None), "models", None)]
    if not type(client).__module__.startswith("google.genai") or not all(hasattr(one, _METHODS[0]) for one in models):
        raise TypeError(f"instrument() takes a google.genai.Client, not {type(client).__name__}")
    vertex = getattr(getattr(client, "_api_client", None), "vertexai", False)
    seller = provider if provider is not None else "vertex" if vertex else "google"
    for one in models:
        for name in _METHODS:
            method = getattr(one, name, None)
            if method is not None and not hasattr(method, "_birdfeed"):
                setattr(one, name, _followed(name, method, seller))
    return client


def _followed(name: str, method: Any, provider: str) -> Any:
    def begin(*args: Any, **kwargs: Any) -> Call:
        return _begin(name, provider, **kwargs)

    traced = followed(method, begin)
    traced._birdfeed = True  # type: ignore[attr-defined]
    return traced


def _begin(name: str, provider: str, *, model: str, config: Any = None, **rest: Any) -> Call:
    image = name not in {"_generate_content", "_generate_content_stream", "_embed_content"} or _paints(model, config)
    fields: dict[str, Any] = {"model": model, "provider": provider}
    if image:
        fields["has_input_image"] = True if name in {"_edit_image", "_upscale_image"} else None
    else:
        fields["stream"] = name == "_generate_content_stream"
    return Call("image_generation" if image else "text_generation", fields, _read_images if image else _read)


def _paints(model: str, config: Any) -> bool:
    """Whether a request is for an image, by the model's name or the requested modalities."""
    given = config.get("response_modalities") if isinstance(config, Mapping) else None
    asked = given or getattr(config, "response_modalities", None) or ()
    return "image" in model or any("IMAGE" in str(one).upper() for one in asked)


def _read(event: TrackedEvent, answer: Any) -> bool:
    """Read an answer, or a chunk of one; each chunk has the usage so far."""
    for name, field in (("model_version", "model_used"), ("response_id", "response_id")):
        if isinstance(value := getattr(answer, name, None), str):
            event[field] = value
    if (usage := getattr(answer, "usage_metadata", None)) is not None:
        # Its modalities are Enum members; JSON turns them into words.
        event["usage"] = usage.model_dump(mode="json", exclude_none=True)
    return any(getattr(one, "finish_reason", None) for one in getattr(answer, "candidates", None) or ())


def _read_images(event: TrackedEvent, answer: Any) -> bool:
    """Read images: Imagen's, or parts of a Gemini answer."""
    last = _read(event, answer)
    event.pop("response_id", None)  # image events have no such column
    count = len(getattr(answer, "generated_images", None) or ())
    for candidate in getattr(answer, "candidates", None) or ():
        for part in getattr(candidate.content, "parts", None) or ():
            mime = getattr(getattr(part, "inline_data", None), "mime_type", None)
            count += isinstance(mime, str) and mime.startswith("image/")
    if count:
        event["num_images"] = event.get("num_images", 0) + count
    return last
