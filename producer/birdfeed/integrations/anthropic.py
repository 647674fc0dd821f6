"""Anthropic's SDK: a `text_generation` event for each message a client asks for.

    from birdfeed.integrations.anthropic import instrument

    client = instrument(Anthropic())  # or AsyncAnthropic, or the clients for Bedrock, Vertex and Foundry

It covers messages, also of the beta API, streamed or not, by create, stream, parse and the tool runner. A request that
the SDK retries is one event. Nothing of the prompt or the answer is kept.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from birdfeed.integrations.sdk_calls import Call, instrument_requests
from birdfeed.tracking.track import TrackedEvent

Client = TypeVar("Client")

#: A part of a client's class name → the provider.
_PROVIDERS: Final = {"Bedrock": "aws", "Vertex": "vertex", "Foundry": "azure"}


def instrument(client: Client, *, provider: str | None = None) -> Client:
    """Send an event for each message requested by this client, or by one made with its with_options(), from now on.

    Args:
        client: An Anthropic or AsyncAnthropic, or one of the clients for other platforms.
        provider: The provider of the models; None means the client's platform.

    Returns:
        The same client.

    Raises:
        TypeError: `client` is not one of Anthropic's clients.
    """
    if not any(kind.__module__.partition(".")[0] == "anthropic" for kind in type(client).__mro__):
        raise TypeError(f"instrument() takes a client of the anthropic package, not {type(client).__name__}")
    seller = provider if provider is not None else _provider_of(client)

    def begin(cast_to: object, options: Any, **kwargs: Any) -> Call | None:
        return _begin(options, seller)

    instrument_requests(client, begin, lambda made: instrument(made, provider=provider))
    return client


def _provider_of(client: object) -> str:
    names = [kind.__name__ for kind in type(client).__mro__]
    return next((name for part, name in _PROVIDERS.items() if any(part in one for one in names)), "anthropic")


def _begin(options: Any, provider: str) -> Call | None:
    """The event of a request; None for a request that is not to a model."""
    if str(options.method).lower() != "post" or str(options.url).partition("?")[0] != "/v1/messages":
        return None
    body: Mapping[str, Any] = options.json_data if isinstance(options.json_data, Mapping) else {}
    metadata = body.get("metadata")
    fields = {
        "model": body.get("model"),
        "provider": provider,
        "stream": body.get("stream") is True,
        "user": metadata.get("user_id") if isinstance(metadata, Mapping) else None,
    }
    return Call("text_generation", fields, _read)


def _read(event: TrackedEvent, answer: Any) -> bool:
    """Read a message, or an event of a streamed one: the first holds the message, a later one the final counts."""
    message = getattr(answer, "message", answer)
    for name, field in (("model", "model_used"), ("id", "response_id")):
        if isinstance(value := getattr(message, name, None), str):
            event[field] = value
    if (usage := getattr(message, "usage", None)) is not None:
        event["usage"] = event.get("usage", {}) | usage.model_dump(mode="json", exclude_none=True)
        if isinstance(tier := getattr(usage, "service_tier", None), str):
            event["service_tier"] = tier
    return getattr(answer, "type", None) == "message_stop" or bool(
        getattr(getattr(answer, "delta", None), "stop_reason", None)
    )
