"""OpenAI's own SDK, over a transport in this process: one event for each request, and the caller sees what it saw.

Longer than other files: the tests of all methods share the same clients and responses.
"""

import asyncio
import gc
from typing import Any

import httpx
import openai
import pytest
from birdfeed import context
from birdfeed.integrations.openai import instrument
from birdfeed.testing import Captured

from tests.support.producer.answers import OPENAI_CHAT, SECRET, Provider, sse

CHAT = OPENAI_CHAT
USAGE = CHAT["usage"]
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5-2025-08-07",
    "status": "completed",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "service_tier": "flex",
    "conversation": {"id": "conv_1"},
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    },
}
MESSAGES: Any = [{"role": "user", "content": SECRET}]


def chunk(text: str | None = None, *, finish: str | None = None, usage: object = None) -> dict[str, Any]:
    choices = [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [] if usage else choices,
        "usage": usage,
    }


STREAM = sse(chunk(SECRET), chunk(finish="stop"), chunk(usage=USAGE), "[DONE]")
STREAM_WITHOUT = sse(chunk(SECRET), chunk(finish="stop"), "[DONE]")


@pytest.fixture
def provider() -> Provider:
    made = Provider(httpx.Response)
    made.answer = CHAT
    return made


@pytest.fixture
def client(provider: Provider) -> openai.OpenAI:
    http = httpx.Client(transport=httpx.MockTransport(provider))
    return instrument(openai.OpenAI(api_key="k", http_client=http, max_retries=0))


@pytest.fixture
def async_client(provider: Provider) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.MockTransport(provider))
    return instrument(openai.AsyncOpenAI(api_key="k", http_client=http, max_retries=0))


def usage_of(events: Captured) -> dict[str, Any]:
    """The one event's usage, without the fields that are empty."""
    return plain(events.only.data["usage"])


def plain(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(part) if isinstance(part, dict) else part for name, part in usage.items() if part is not None}


def test_a_chat_completion(client: openai.OpenAI, events: Captured) -> None:
    """All fields from the request and the response, and no text."""
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, user="ada")

    assert answer.choices[0].message.content == SECRET
    event = events.only
    event.validated()
    assert event.event_type == "text_generation"
    assert {name: event.data[name] for name in event.data if name not in {"usage", "start_time", "end_time"}} == {
        "model": "gpt-4o-mini",
        "model_used": "gpt-4o-mini-2024-07-18",
        "provider": "openai",
        "user": "ada",
        "stream": False,
        "response_id": "chatcmpl-1",
        "service_tier": "default",
        "status": "success",
        "duration": event.data["duration"],
    }
    assert usage_of(events) == USAGE


def test_the_user_of_a_request(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """From the context in which it was made, also if its stream is read elsewhere.

    A user in the request has priority.
    """
    provider.answer = STREAM
    with context(user="ada", project="p"):
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert len(list(stream)) == 3
    provider.answer = CHAT
    with context(user="ada", project="p"):
        client.chat.completions.create(model="m", messages=MESSAGES, user="bob")

    assert [(event.data["user"], event.data["project"]) for event in events] == [("ada", "p"), ("bob", "p")]


def test_an_asynchronous_one(async_client: openai.AsyncOpenAI, events: Captured) -> None:
    """The same."""
    answer = asyncio.run(async_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES))

    assert answer.id == "chatcmpl-1"
    assert usage_of(events) == USAGE


def test_a_stream(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Its event is sent with the last part, which has the usage."""
    provider.answer = STREAM
    with client.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        parts = []
        for part in stream:
            assert len(events) == 0
            parts.append(part)

    assert len(parts) == 3
    assert usage_of(events) == USAGE
    assert events.only.data["stream"] is True
    assert events.only.data["status"] == "success"


def test_an_asynchronous_stream(async_client: openai.AsyncOpenAI, provider: Provider, events: Captured) -> None:
    """The same."""
    provider.answer = STREAM

    async def ask() -> int:
        stream = await async_client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        return len([part async for part in stream])

    assert asyncio.run(ask()) == 3
    assert usage_of(events) == USAGE


def test_usage_is_asked_for(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """With include_usage=True; the program, which did not ask, doesn't see the part that has it."""
    provider.answer = STREAM
    asking = instrument(openai.OpenAI(api_key="k", http_client=client._client, max_retries=0), include_usage=True)

    parts = list(asking.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))

    assert [len(part.choices) for part in parts] == [1, 1]
    assert provider.asked[0]["stream_options"] == {"include_usage": True}
    assert usage_of(events) == USAGE


def test_a_program_that_asks_for_usage_sees_it(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Also if the integration would ask for it."""
    provider.answer = STREAM
    asking = instrument(openai.OpenAI(api_key="k", http_client=client._client, max_retries=0), include_usage=True)

    options: Any = {"include_usage": True}
    stream = asking.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options)
    assert len(list(stream)) == 3


def test_a_stream_that_is_not_read_to_its_end(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """In the middle its error type is `cancelled`.

    After the end of the answer it is a success, with or without usage.
    """
    provider.answer = STREAM_WITHOUT
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(stream)
    stream.close()
    later = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(later)
    next(later)
    later.close()

    assert [event.data["status"] for event in events] == ["error", "success"]
    assert events[0].data["error"]["type"] == "cancelled"


def test_a_stream_that_is_garbage_collected(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Its event is sent then."""
    provider.answer = STREAM
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(stream)
    del stream
    gc.collect()

    assert events.only.data["error"]["type"] == "cancelled"


def test_the_stream_helper(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """`chat.completions.stream()` reads the stream itself."""
    provider.answer = STREAM
    with client.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == SECRET

    assert usage_of(events) == USAGE


def test_raw_responses(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """As LiteLLM uses them: the event is sent when the program reads the response, once."""
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().id == raw.parse().id == "chatcmpl-1"
    assert usage_of(events) == USAGE

    events.clear()
    provider.answer = STREAM
    streamed = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
    assert len(list(streamed.parse())) == 3
    assert usage_of(events) == USAGE

    events.clear()
    provider.answer = CHAT
    with client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES) as later:
        later.parse()
    assert usage_of(events) == USAGE


def test_a_raw_response_that_is_not_read(client: openai.OpenAI, events: Captured) -> None:
    """It was answered: an event without usage."""
    client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    gc.collect()

    assert events.only.data["status"] == "success"
    assert "usage" not in events.only.data


def test_refusals(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """The SDK's error reaches the caller, and the event has its code, but not its text, which may quote the prompt."""
    provider.status = 429
    provider.answer = {"error": {"message": f"Your prompt: {SECRET}", "code": "rate_limit_exceeded"}}
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)

    data = events.only.data
    assert data["status"] == "error"
    assert data["error"]["type"] == "RateLimitError"
    assert data["error"]["code"] == "rate_limit_exceeded"
    assert data["model"] == "gpt-4o-mini"


def test_an_error_in_a_stream(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """After the first parts."""
    provider.answer = sse(chunk(SECRET), {"error": {"message": "overloaded", "code": "server_error"}})
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))

    assert events.only.data["error"]["code"] == "server_error"


def test_retries_of_the_sdk_are_one_event(provider: Provider, events: Captured) -> None:
    """Those that the SDK makes by itself."""
    answers = [httpx.Response(500, headers={"retry-after-ms": "1"}), httpx.Response(200, json=CHAT)]
    http = httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0)))
    client = instrument(openai.OpenAI(api_key="k", http_client=http, max_retries=1))

    client.chat.completions.create(model="m", messages=MESSAGES)

    assert events.only.data["status"] == "success"


def test_a_response(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """The Responses API, with its conversation and tier."""
    provider.answer = RESPONSE
    client.responses.create(model="gpt-5", input=SECRET)

    data = events.only.data
    assert (data["response_id"], data["chat_id"], data["service_tier"]) == ("resp_1", "conv_1", "flex")
    assert usage_of(events) == RESPONSE["usage"]


def test_a_streamed_response(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Its last event has the whole response; a program that stops there has its answer."""
    created = {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "usage": None}}
    done = {"type": "response.completed", "sequence_number": 1, "response": RESPONSE}
    provider.answer = sse(created, done, named=True)
    stream = client.responses.create(model="gpt-5", input=SECRET, stream=True)
    for part in stream:
        if part.type == "response.completed":
            break
    stream.close()

    assert events.only.data["status"] == "success"
    assert usage_of(events) == RESPONSE["usage"]


def test_a_failed_response(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Its HTTP status is 200."""
    provider.answer = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": SECRET}}
    client.responses.create(model="gpt-5", input=SECRET)

    assert events.only.data["status"] == "error"
    assert events.only.data["error"] == {"type": "response_failed", "code": "server_error"}


def test_images(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Made and edited."""
    usage = {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106}
    provider.answer = {
        "created": 1,
        "data": [{"b64_json": SECRET}, {"b64_json": SECRET}],
        "size": "1024x1024",
        "quality": "medium",
        "usage": {**usage, "input_tokens_details": {"image_tokens": 0, "text_tokens": 50}},
    }
    client.images.generate(model="gpt-image-1", prompt=SECRET, n=2, size="auto")
    client.images.edit(model="gpt-image-1", prompt=SECRET, image=("cat.png", b"png"))

    made, edited = events
    made.validated()
    assert made.event_type == edited.event_type == "image_generation"
    assert made.data["num_images"] == 2
    assert (made.data["image_size"], made.data["quality"]) == ("1024x1024", "medium")
    assert made.data["usage"]["output_tokens"] == 1056
    assert (made.data["has_input_image"], edited.data["has_input_image"]) == (False, True)


def test_audio(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Speech is billed by the text that is read, transcripts by the audio."""
    client.audio.speech.create(model="tts-1", voice="alloy", input="four")
    provider.answer = {"text": SECRET, "usage": {"type": "duration", "seconds": 7}}
    client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"mp3"))

    spoken, heard = events
    assert (spoken.data["model"], spoken.data["characters"]) == ("tts-1", 4)
    assert (heard.data["model"], heard.data["audio_seconds"]) == ("whisper-1", 7)


def test_embeddings_and_calls_that_use_no_model(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """Embeddings are billed; a list of models is not."""
    provider.answer = {"object": "list", "data": []}
    client.models.list()
    provider.answer["data"] = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    provider.answer |= {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    client.embeddings.create(model="text-embedding-3-small", input=SECRET)

    assert events.only.data["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_derived_clients(client: openai.OpenAI, events: Captured) -> None:
    """with_options() keeps the integration; instrumenting twice makes no second event."""
    instrument(instrument(client)).with_options(timeout=5).chat.completions.create(model="m", messages=MESSAGES)

    assert len(events) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://localhost:8000/v1", None),
        ("https://openai.com.example/v1", None),
    ],
)
def test_the_provider_of_a_client(provider: Provider, events: Captured, url: str, expected: str | None) -> None:
    """By the server's name, if that is known."""
    http = httpx.Client(transport=httpx.MockTransport(provider))
    client = instrument(openai.OpenAI(api_key="k", http_client=http, base_url=url))

    client.chat.completions.create(model="m", messages=MESSAGES)

    assert events.only.data.get("provider") == expected


def test_azure(provider: Provider, events: Captured) -> None:
    """Its client puts the deployment into the path."""
    http = httpx.Client(transport=httpx.MockTransport(provider))
    client = instrument(
        openai.AzureOpenAI(api_key="k", api_version="1", azure_endpoint="https://a.example", http_client=http)
    )

    client.chat.completions.create(model="my-deployment", messages=MESSAGES)

    assert (events.only.data["provider"], events.only.data["model"]) == ("azure", "my-deployment")


def test_a_malformed_answer_reaches_the_program(client: openai.OpenAI, provider: Provider, events: Captured) -> None:
    """From a server that doesn't implement the API well."""
    provider.answer = {"choices": 5, "usage": "many", "model": 7}
    answer = client.chat.completions.create(model="m", messages=MESSAGES)

    assert answer.model == 7  # type: ignore[comparison-overlap]
    assert events.only.data["model"] == "m"


def test_other_objects_are_refused() -> None:
    """When the program starts."""
    with pytest.raises(TypeError, match="openai package"):
        instrument(httpx.Client)
