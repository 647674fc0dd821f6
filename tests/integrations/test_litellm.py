"""LiteLLM's own SDK, with its mock answers, and how its proxy finds a callback."""

import asyncio
import os
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import birdfeed
import pytest
from birdfeed.testing import Captured, capture

from tests.support.producer.answers import SECRET
from tests.support.wait import eventually

#: LiteLLM fetches a price map when it is imported, unless told not to.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import litellm
    from birdfeed.integrations.litellm import BirdfeedLogger, birdfeed_logger
    from litellm.proxy.types_utils.utils import get_instance_fn

# LiteLLM's own: pydantic's warnings of its types, and loops it leaves to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")

ASKED: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": SECRET}], "user": "ada"}


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    with capture() as captured:
        monkeypatch.setattr(litellm, "callbacks", [BirdfeedLogger()])
        yield captured
        assert SECRET not in repr(captured)


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def only(events: Captured) -> dict[str, Any]:
    """The one event; LiteLLM calls back in its own thread."""
    eventually(lambda: len(events), what="an event")
    events.only.validated()
    return events.only.data


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"], indirect=True)
def test_times_are_right_in_every_time_zone(zone: str, events: Captured) -> None:
    """LiteLLM's own are local times without a zone."""
    before = time.time()
    litellm.completion(**ASKED, mock_response=SECRET)
    data = only(events)

    assert before - 1 <= data["start_time"] <= data["end_time"] <= time.time() + 1
    assert data["duration"] == pytest.approx((data["end_time"] - data["start_time"]) * 1000)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"], indirect=True)
def test_times_without_the_payload(zone: str, events: Captured) -> None:
    """Older versions give only the local times."""
    at = time.time()
    times = datetime.fromtimestamp(at), datetime.fromtimestamp(at + 2)
    BirdfeedLogger().log_success_event({"model": "m", "call_type": "completion"}, {}, *times)

    data = only(events)
    assert (data["start_time"], data["duration"]) == (pytest.approx(at), pytest.approx(2000))


def test_a_completion(events: Captured) -> None:
    """All fields from the call, and no text."""
    litellm.completion(**ASKED, mock_response=SECRET)
    data = only(events)

    expected = {
        "model": "gpt-4o-mini",
        "provider": "openai",
        "user": "ada",
        "stream": False,
        "status": "success",
    }
    assert expected == {name: data[name] for name in expected}
    assert data["response_id"].startswith("chatcmpl-")
    assert data["usage"]["total_tokens"] == 30


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream(events: Captured, asynchronous: bool) -> None:
    """One event, with the usage of the whole stream."""

    async def ask() -> None:
        async for _ in await litellm.acompletion(**ASKED, stream=True, mock_response=SECRET):
            assert len(events) == 0
        while not events:
            await asyncio.sleep(0.01)

    if asynchronous:
        asyncio.run(ask())
    else:
        for _ in litellm.completion(**ASKED, stream=True, mock_response=SECRET):
            assert len(events) == 0
    data = only(events)

    assert data["stream"] is True
    assert data["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure(events: Captured, asynchronous: bool) -> None:
    """The event has the error's class and code; the error reaches the caller."""

    async def ask() -> None:
        with pytest.raises(litellm.RateLimitError):  # type: ignore[attr-defined]
            await litellm.acompletion(**ASKED, mock_response="litellm.RateLimitError")
        while not events:
            await asyncio.sleep(0.01)

    if asynchronous:
        asyncio.run(ask())
    else:
        with pytest.raises(litellm.RateLimitError):  # type: ignore[attr-defined]
            litellm.completion(**ASKED, mock_response="litellm.RateLimitError")
    data = only(events)

    assert data["status"] == "error"
    assert (data["error"]["type"], data["error"]["code"]) == ("RateLimitError", "429")
    assert data["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_user_of_a_request(events: Captured, stream: bool, asynchronous: bool) -> None:
    """From the context of the call, also if LiteLLM calls back from a thread that doesn't inherit it."""

    async def ask() -> None:
        answer = await litellm.acompletion(**ASKED, stream=stream, mock_response=SECRET)
        if stream:
            assert [part async for part in answer]
        while not events:
            await asyncio.sleep(0.01)

    with birdfeed.context(tier="gold", user="context", request_id="r1"):
        if asynchronous:
            asyncio.run(ask())
        else:
            answer = litellm.completion(**ASKED, stream=stream, mock_response=SECRET)
    if stream and not asynchronous:
        assert list(answer)
    data = only(events)

    assert (data["tier"], data["user"], data["request_id"]) == ("gold", "ada", "r1")


def test_images(events: Captured) -> None:
    """An event of the other type."""
    litellm.image_generation(model="gpt-image-1", prompt=SECRET, mock_response="https://images.example/1.png")
    data = only(events)

    assert events.only.event_type == "image_generation"
    assert (data["model"], data["num_images"]) == ("gpt-image-1", 1)


def test_the_user_of_a_proxy_request(events: Captured) -> None:
    """The key's owner, and the end user where there is one."""
    metadata = {"user_api_key_user_id": "owner", "user_api_key_team_id": "team", "user_api_key_project_id": "p"}
    payload = {"call_type": "acompletion", "model": "m", "startTime": 1.0, "endTime": 2.0, "metadata": metadata}
    for end_user in ("", "ada"):
        asyncio.run(
            BirdfeedLogger().async_log_success_event(
                {"standard_logging_object": {**payload, "end_user": end_user}}, None, None, None
            )
        )

    assert [event.data["user"] for event in events] == ["owner", "ada"]
    assert (events[0].data["organization"], events[0].data["project"]) == ("team", "p")


def test_calls_that_make_no_event(events: Captured) -> None:
    """No event, and no exception."""
    BirdfeedLogger().log_success_event({"call_type": "afile_list", "model": ""}, None, None, None)
    BirdfeedLogger().log_success_event(None, None, None, None)

    assert len(events) == 0


def test_the_proxys_dotted_path() -> None:
    """The callback, as the proxy's configuration names it."""
    assert (
        get_instance_fn("birdfeed.integrations.litellm.birdfeed_logger", "/etc/litellm/config.yaml") is birdfeed_logger
    )
