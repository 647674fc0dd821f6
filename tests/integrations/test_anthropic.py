"""Anthropic's own SDK, over a transport in this process."""

import asyncio
from typing import Any

import anthropic
import httpx2
import pytest
from birdfeed.integrations.anthropic import instrument
from birdfeed.testing import Captured

from tests.support.pricing.cases import counted
from tests.support.producer.answers import ANTHROPIC_MESSAGE, SECRET, Provider, sse

MESSAGE = ANTHROPIC_MESSAGE
#: The billed classes of the message's usage.
BILLED = {
    "prompt_text": 20,
    "prompt_cached": 100,
    "prompt_cache_write": 10,
    "prompt_cache_write_1h": 20,
    "completion_text": 9,
}
PARTS: list[Any] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": {**MESSAGE["usage"], "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SECRET}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]
ASKED: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": SECRET}],
}


@pytest.fixture
def provider() -> Provider:
    made = Provider(httpx2.Response)
    made.answer = MESSAGE
    return made


@pytest.fixture
def client(provider: Provider) -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(provider))
    return instrument(anthropic.Anthropic(api_key="k", http_client=http, max_retries=0))


@pytest.fixture
def async_client(provider: Provider) -> anthropic.AsyncAnthropic:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(provider))
    return instrument(anthropic.AsyncAnthropic(api_key="k", http_client=http, max_retries=0))


def billed(events: Captured) -> dict[str, int]:
    status, counts = counted(events.only.data["usage"])
    assert status == "ok"
    return counts


def test_a_message(client: anthropic.Anthropic, events: Captured) -> None:
    """All fields from the request and the response, and no text."""
    answer = client.messages.create(**ASKED, metadata={"user_id": "ada"})

    assert answer.content[0].text == SECRET
    events.only.validated()
    data = events.only.data
    expected = {
        "model": "claude-test",
        "model_used": "claude-test-20261101",
        "provider": "anthropic",
        "user": "ada",
        "stream": False,
        "response_id": "msg_1",
        "service_tier": "priority",
        "status": "success",
    }
    assert expected == {name: data[name] for name in expected}
    assert billed(events) == BILLED


def test_an_asynchronous_one_and_a_beta_one(async_client: anthropic.AsyncAnthropic, events: Captured) -> None:
    """The same."""

    async def ask() -> None:
        await async_client.messages.create(**ASKED)
        await async_client.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])

    asyncio.run(ask())
    assert [counted(event.data["usage"])[1] for event in events] == [BILLED, BILLED]


@pytest.mark.parametrize("helper", [False, True])
def test_a_stream(client: anthropic.Anthropic, provider: Provider, events: Captured, helper: bool) -> None:
    """The first part has the input counts, the last the output counts; with create() and with the SDK's helper."""
    provider.answer = sse(*PARTS, named=True)
    if helper:
        with client.messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == SECRET
    else:
        assert len(list(client.messages.create(**ASKED, stream=True))) == len(PARTS)

    assert events.only.data["stream"] is True
    assert events.only.data["status"] == "success"
    assert billed(events) == BILLED


@pytest.mark.parametrize("helper", [False, True])
def test_an_asynchronous_stream(
    async_client: anthropic.AsyncAnthropic, provider: Provider, events: Captured, helper: bool
) -> None:
    """The same."""
    provider.answer = sse(*PARTS, named=True)

    async def ask() -> None:
        if helper:
            async with async_client.messages.stream(**ASKED) as stream:
                await stream.get_final_message()
        else:
            assert len([part async for part in await async_client.messages.create(**ASKED, stream=True)]) == len(PARTS)

    asyncio.run(ask())
    assert billed(events) == BILLED


def test_a_stream_that_is_not_read_to_its_end(
    client: anthropic.Anthropic, provider: Provider, events: Captured
) -> None:
    """The counts so far are sent: they are billed."""
    provider.answer = sse(*PARTS, named=True)
    with client.messages.create(**ASKED, stream=True) as stream:
        next(stream)

    assert events.only.data["error"]["type"] == "cancelled"
    assert billed(events) == {**BILLED, "completion_text": 1}


def test_refusals(client: anthropic.Anthropic, provider: Provider, events: Captured) -> None:
    """As a response, and in a stream."""
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}
    provider.answer = sse(PARTS[0], busy, named=True)
    with pytest.raises(anthropic.APIStatusError):
        list(client.messages.create(**ASKED, stream=True))
    provider.status, provider.answer = 529, busy
    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**ASKED)

    assert [event.data["status"] for event in events] == ["error", "error"]
    assert events[1].data["error"]["code"] == "529"


def test_counting_tokens_makes_no_event(client: anthropic.Anthropic, provider: Provider, events: Captured) -> None:
    """It is free."""
    provider.answer = {"input_tokens": 5}
    client.messages.count_tokens(model="m", messages=ASKED["messages"])

    assert len(events) == 0


def test_raw_responses_and_derived_clients(client: anthropic.Anthropic, events: Captured) -> None:
    """One event each."""
    client.messages.with_raw_response.create(**ASKED).parse()
    client.with_options(timeout=5).messages.create(**ASKED)

    assert [event.data["model_used"] for event in events] == ["claude-test-20261101"] * 2


def test_platforms(provider: Provider, events: Captured) -> None:
    """The client's class gives the provider."""
    http = httpx2.Client(transport=httpx2.MockTransport(provider))
    client = instrument(
        anthropic.AnthropicBedrock(
            aws_access_key="a", aws_secret_key="b", aws_region="us-east-1", http_client=http, max_retries=0
        )
    )
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    client._prepare_request = lambda request: None  # type: ignore[method-assign]  # which signs, with boto3
    client.messages.create(**{**ASKED, "model": model})

    assert (events.only.data["provider"], events.only.data["model"]) == ("aws", model)


def test_other_objects_are_refused() -> None:
    """When the program starts."""
    with pytest.raises(TypeError, match="anthropic package"):
        instrument(object())
