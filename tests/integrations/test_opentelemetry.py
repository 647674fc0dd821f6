"""OpenTelemetry's own SDK, with spans as instrumentations make them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from birdfeed.integrations.opentelemetry import BirdfeedSpanProcessor
from birdfeed.testing import Captured
from birdfeed_worker.testing import priced
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.attributes.openai_attributes import OPENAI_RESPONSE_SERVICE_TIER
from opentelemetry.trace import Status, StatusCode, Tracer

from tests.support.pricing.cases import counted
from tests.support.producer.answers import SECRET

#: With the names of the conventions' own package, so that a wrong name in our code is found.
CURRENT: dict[str, Any] = {
    gen_ai.GEN_AI_OPERATION_NAME: "chat",
    gen_ai.GEN_AI_PROVIDER_NAME: "openai",
    gen_ai.GEN_AI_REQUEST_MODEL: "gpt-4o-mini",
    gen_ai.GEN_AI_RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
    gen_ai.GEN_AI_RESPONSE_ID: "chatcmpl-1",
    gen_ai.GEN_AI_CONVERSATION_ID: "conv-1",
    gen_ai.GEN_AI_REQUEST_STREAM: True,
    gen_ai.GEN_AI_USAGE_INPUT_TOKENS: 100,
    gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: 10,
    gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 40,
    gen_ai.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 20,
    gen_ai.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 4,
    OPENAI_RESPONSE_SERVICE_TIER: "flex",
    gen_ai.GEN_AI_INPUT_MESSAGES: SECRET,
    gen_ai.GEN_AI_OUTPUT_MESSAGES: SECRET,
    "user.id": "ada",
}
#: Semantic conventions 1.27 to 1.36.
BEFORE: dict[str, Any] = {
    gen_ai.GEN_AI_OPERATION_NAME: "chat",
    gen_ai.GEN_AI_SYSTEM: "openai",
    gen_ai.GEN_AI_REQUEST_MODEL: "gpt-4o-mini",
    gen_ai.GEN_AI_RESPONSE_MODEL: "gpt-4o-mini-2024-07-18",
    gen_ai.GEN_AI_RESPONSE_ID: "chatcmpl-1",
    gen_ai.GEN_AI_USAGE_INPUT_TOKENS: 100,
    gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: 10,
    gen_ai.GEN_AI_OPENAI_RESPONSE_SERVICE_TIER: "flex",
    gen_ai.GEN_AI_PROMPT: SECRET,
}
#: OpenLLMetry's attributes, from before the conventions.
OLDEST: dict[str, Any] = {
    "llm.request.type": "chat",
    gen_ai.GEN_AI_SYSTEM: "OpenAI",
    gen_ai.GEN_AI_REQUEST_MODEL: "gpt-4o-mini",
    gen_ai.GEN_AI_USAGE_PROMPT_TOKENS: 100,
    gen_ai.GEN_AI_USAGE_COMPLETION_TOKENS: 10,
    "llm.usage.total_tokens": 110,
    "gen_ai.prompt.0.content": SECRET,
    "llm.is_streaming": True,
}


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    provider = TracerProvider(resource=Resource({"deployment.environment.name": "staging"}))
    provider.add_span_processor(BirdfeedSpanProcessor())
    yield provider.get_tracer("test")
    assert provider.force_flush()
    provider.shutdown()


def ended(tracer: Tracer, attributes: Mapping[str, Any]) -> None:
    tracer.start_span("chat", attributes=attributes, start_time=1_700_000_000_000_000_000).end(
        1_700_000_001_500_000_000
    )


def test_the_current_conventions(tracer: Tracer, events: Captured) -> None:
    """Every column for which they have a value."""
    span = tracer.start_span("chat", attributes=CURRENT, start_time=1_700_000_000_000_000_000)
    span.end(1_700_000_001_500_000_000)

    events.only.validated()
    data = dict(events.only.data)
    usage = data.pop("usage")
    assert data == {
        "model": "gpt-4o-mini",
        "model_used": "gpt-4o-mini-2024-07-18",
        "provider": "openai",
        "service_tier": "flex",
        "user": "ada",
        "response_id": "chatcmpl-1",
        "chat_id": "conv-1",
        "stream": True,
        "environment": "staging",
        "start_time": 1_700_000_000.0,
        "end_time": 1_700_000_001.5,
        "duration": 1500.0,
        "trace_id": format(span.get_span_context().trace_id, "032x"),
        "span_id": format(span.get_span_context().span_id, "016x"),
        "status": "success",
    }
    assert counted(usage) == (
        "ok",
        {
            "prompt_text": 40,
            "prompt_cached": 40,
            "prompt_cache_write": 20,
            "completion_text": 6,
            "completion_reasoning": 4,
        },
    )


@pytest.mark.parametrize("attributes", [BEFORE, OLDEST], ids=["before", "oldest"])
def test_the_attributes_before_the_conventions(tracer: Tracer, events: Captured, attributes: dict[str, Any]) -> None:
    """Fewer columns; the cost is partial, because some of the input may have come from a cache."""
    ended(tracer, attributes)

    events.only.validated()
    assert events.only.data["model"] == "gpt-4o-mini"
    assert events.only.data["provider"].lower() == "openai"
    assert counted(events.only.data["usage"]) == ("incomplete", {"prompt_text": 100, "completion_text": 10})
    assert priced(events.only)["cost_status"] == "partial"


def test_embeddings_have_no_cached_input(tracer: Tracer, events: Captured) -> None:
    """So their cost is complete without a count of it."""
    ended(tracer, {**BEFORE, gen_ai.GEN_AI_OPERATION_NAME: "embeddings"})

    assert counted(events.only.data["usage"])[0] == "ok"


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "create_agent", "invoke_workflow", "retrieval"])
def test_spans_around_calls_are_skipped(tracer: Tracer, events: Captured, operation: str) -> None:
    """They sum up the usage of the calls inside, which have spans of their own."""
    ended(tracer, {**CURRENT, gen_ai.GEN_AI_OPERATION_NAME: operation})

    assert len(events) == 0


def test_other_spans_are_skipped(tracer: Tracer, events: Captured) -> None:
    """Of HTTP, of databases, of anything."""
    ended(tracer, {"http.request.method": "POST", "url.full": "https://api.example"})
    ended(tracer, {})

    assert len(events) == 0


def test_images(tracer: Tracer, events: Captured) -> None:
    """Recognised by the type of the output."""
    ended(tracer, {**CURRENT, gen_ai.GEN_AI_OUTPUT_TYPE: "image"})

    assert events.only.event_type == "image_generation"
    events.only.validated()


def test_errors(tracer: Tracer, events: Captured) -> None:
    """By `error.type`, which is a code or a name, and by the exception."""
    with tracer.start_as_current_span("chat", attributes={**CURRENT, "error.type": "429"}) as span:
        span.set_status(Status(StatusCode.ERROR, f'prompt: "{SECRET}"'))
    with pytest.raises(TimeoutError), tracer.start_as_current_span("chat", attributes=CURRENT):
        raise TimeoutError("no answer")

    codes, raised = (event.data["error"] for event in events)
    assert [event.data["status"] for event in events] == ["error", "error"]
    assert (codes["type"], codes["code"]) == ("429", "429")
    assert (raised["type"], raised["message"]) == ("TimeoutError", "no answer")


def test_a_malformed_span(events: Captured) -> None:
    """It is logged, and no request fails."""
    BirdfeedSpanProcessor().on_end(None)  # type: ignore[arg-type]

    assert len(events) == 0
