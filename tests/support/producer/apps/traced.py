"""A program that uses OpenAI's SDK, with events from its integration or from OpenTelemetry's instrumentation.

`python traced.py direct|traced URL` prints each event as JSON.
"""

import importlib
import json
import sys
from contextlib import suppress
from typing import Any

import birdfeed
import openai
from birdfeed.testing import capture


def instrumented(client: Any, how: str) -> Any:
    """The client, instrumented in one of the two ways."""
    if how == "direct":
        from birdfeed.integrations.openai import instrument

        return instrument(client, provider="openai")
    from birdfeed.integrations.opentelemetry import BirdfeedSpanProcessor
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(BirdfeedSpanProcessor())
    instrumentor = importlib.import_module("opentelemetry.instrumentation.openai_v2").OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    return client


def ask(client: Any, prompt: str, **more: Any) -> None:
    """Make one call; a stream is read to its end."""
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}], user="ada", service_tier="default", **more
    )
    if more:
        assert list(answer)


def main() -> None:
    how, url = sys.argv[1:]
    client = instrumented(openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0), how)
    with capture() as events, birdfeed.context(tier="gold", request_id="r1"):
        ask(client, "name six birds of the sea please")
        ask(client, "name six birds of the sea please", stream=True, stream_options={"include_usage": True})
        with suppress(openai.BadRequestError):
            ask(client, "fail")
        for event in events:
            at = event.occurred_at.isoformat()
            print(json.dumps([event.event_id, event.event_type, at, event.data, event.dropped_fields]))


main()
