"""Google's own SDK, over a transport in this process."""

import asyncio
import warnings
from typing import Any

import httpx
import pytest
from birdfeed.integrations.google_genai import instrument
from birdfeed.testing import Captured
from google import genai
from google.genai import errors, types

from tests.support.pricing.cases import counted
from tests.support.producer.answers import GEMINI, SECRET, Provider, sse

USAGE = GEMINI["usageMetadata"]
BILLED = {"prompt_text": 7, "prompt_audio": 5, "prompt_cached": 8, "completion_text": 7, "completion_reasoning": 3}


def part(finish: str | None = "STOP", usage: object = USAGE) -> dict[str, Any]:
    return {**GEMINI, "candidates": [{**GEMINI["candidates"][0], "finishReason": finish}], "usageMetadata": usage}


@pytest.fixture
def provider() -> Provider:
    made = Provider(httpx.Response)
    made.answer = part()
    return made


def made(provider: Provider, **settings: Any) -> genai.Client:
    transport = httpx.MockTransport(provider)
    options = types.HttpOptions(
        httpx_client=httpx.Client(transport=transport), httpx_async_client=httpx.AsyncClient(transport=transport)
    )
    return instrument(genai.Client(api_key="k", http_options=options, **settings))


@pytest.fixture
def client(provider: Provider) -> genai.Client:
    return made(provider)


def billed(events: Captured) -> dict[str, int]:
    status, counts = counted(events.only.data["usage"])
    assert status == "ok"
    return counts


def test_content(client: genai.Client, events: Captured) -> None:
    """All fields from the request and the response, and no text; synchronous and asynchronous."""
    assert client.models.generate_content(model="gemini-2.5-flash", contents=SECRET).text == SECRET

    events.only.validated()
    data = events.only.data
    expected = {
        "model": "gemini-2.5-flash",
        "model_used": "gemini-2.5-flash-001",
        "provider": "google",
        "stream": False,
        "response_id": "resp-1",
        "status": "success",
    }
    assert expected == {name: data[name] for name in expected}
    assert billed(events) == BILLED
    assert events.only.dropped_fields == 0

    events.clear()
    asyncio.run(client.aio.models.generate_content(model="gemini-2.5-flash", contents=SECRET))
    assert billed(events) == BILLED


def test_streams(client: genai.Client, provider: Provider, events: Captured) -> None:
    """Each part has the usage so far; the last counts."""
    provider.answer = sse(part(finish=None, usage={**USAGE, "candidatesTokenCount": 1, "totalTokenCount": 24}), part())
    assert len(list(client.models.generate_content_stream(model="gemini-2.5-flash", contents=SECRET))) == 2
    assert events.only.data["stream"] is True
    assert billed(events) == BILLED

    async def ask() -> int:
        stream = await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=SECRET)
        return len([one async for one in stream])

    events.clear()
    assert asyncio.run(ask()) == 2
    assert events.only.data["status"] == "success"
    assert billed(events) == BILLED


def test_a_stream_that_is_not_read_to_its_end(client: genai.Client, provider: Provider, events: Captured) -> None:
    """Its error type is `cancelled`."""
    provider.answer = sse(part(finish=None), part())
    stream: Any = client.models.generate_content_stream(model="gemini-2.5-flash", contents=SECRET)
    next(stream)
    stream.close()

    assert events.only.data["error"]["type"] == "cancelled"


def test_chats(client: genai.Client, events: Captured) -> None:
    """They use the same methods."""
    client.chats.create(model="gemini-2.5-flash").send_message(SECRET)

    assert billed(events) == BILLED


def test_functions_called_by_the_sdk(client: genai.Client, provider: Provider, events: Captured) -> None:
    """Each request is billed, so each is an event; the SDK's response has only the last one's usage."""
    calls = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "now", "args": {}}}]}}]}
    answers = [{**part(), **calls}, part()]

    def now() -> str:
        """The time."""
        provider.answer = answers.pop(0)
        return "noon"

    provider.answer = answers.pop(0)
    client.models.generate_content(
        model="gemini-2.5-flash", contents=SECRET, config=types.GenerateContentConfig(tools=[now])
    )

    assert [counted(event.data["usage"])[1] for event in events] == [BILLED, BILLED]


def test_images(client: genai.Client, provider: Provider, events: Captured) -> None:
    """In the response of an image model, and from Imagen."""
    image = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}
    provider.answer = {**part(), "candidates": [{"content": {"parts": [image, image]}, "finishReason": "STOP"}]}
    client.models.generate_content(model="gemini-2.5-flash-image", contents=SECRET)
    provider.answer = {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "aGVsbG8="}]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's next version doesn't have it
        made(provider, vertexai=True).models.generate_images(model="imagen-4.0-generate-001", prompt=SECRET)

    assert [(event.event_type, event.data["num_images"]) for event in events] == [
        ("image_generation", 2),
        ("image_generation", 1),
    ]
    assert [event.data["provider"] for event in events] == ["google", "vertex"]
    events[0].validated()


def test_refusals(client: genai.Client, provider: Provider, events: Captured) -> None:
    """The SDK's error reaches the caller, and the event has its code, but not its text, which may quote the prompt."""
    provider.status = 429
    provider.answer = {"error": {"code": 429, "message": f"prompt: {SECRET}", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(errors.ClientError):
        client.models.generate_content(model="gemini-2.5-flash", contents=SECRET)

    data = events.only.data
    assert (data["status"], data["error"]["type"], data["error"]["code"]) == ("error", "ClientError", "429")


def test_instrumenting_twice(client: genai.Client, events: Captured) -> None:
    """Instrumenting twice makes no second event; other objects are refused."""
    instrument(client).models.generate_content(model="gemini-2.5-flash", contents=SECRET)

    assert len(events) == 1
    with pytest.raises(TypeError, match=r"google\.genai\.Client"):
        instrument(object())
