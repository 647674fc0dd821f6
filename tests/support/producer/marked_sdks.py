"""Calls through each SDK's integration with markers wherever a program, a provider or a span can put them.

Each provider is in this process. No call may raise any error but the SDK's own.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.producer.answers import ANTHROPIC_MESSAGE, GEMINI, OPENAI_CHAT, Provider, sse
from tests.support.wait import eventually

#: A model that is in each call: the search must find it, or it doesn't work.
CONTROL = "control-model-2"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Texts that must not be found: prose, like a prompt; a person; a chat; a provider's API key.

    The name of a file.
    """

    prompt: str
    person: str
    chat: str
    key: str
    file: str

    @property
    def messages(self) -> Any:
        """System text, prompt, an earlier answer that calls a tool, and what the tool answered."""
        call = {
            "id": "c1",
            "type": "function",
            "function": {"name": "look_up", "arguments": f'{{"q":"{self.prompt}"}}'},
        }
        return [
            {"role": "system", "content": self.prompt},
            {"role": "user", "content": [{"type": "text", "text": self.prompt}]},
            {"role": "assistant", "content": self.prompt, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": self.prompt},
        ]

    @property
    def tools(self) -> Any:
        return [{"type": "function", "function": {"name": "look_up", "description": self.prompt, "parameters": {}}}]

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Prompt": self.prompt, "X-Person": self.person}

    def usage(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """A usage in which a provider has more than numbers."""
        return {**usage, "note": self.prompt, self.prompt: 1, "details": {"text": self.prompt, self.prompt: {"a": 1}}}

    @property
    def refusal(self) -> dict[str, Any]:
        """An error's body that repeats the prompt, unquoted, and the key."""
        said = f"{self.prompt} of {self.person} in {self.file} was refused for the key {self.key}"
        return {"message": said, "type": self.prompt, "code": self.prompt, "param": self.prompt, "status": self.prompt}


def fails(call: Callable[[], object]) -> None:
    """Make a call that the provider refuses."""
    try:
        call()
    except Exception:
        return
    raise AssertionError("the provider did not refuse")


def openai_calls(marks: Marks, seen: Callable[[], int]) -> None:
    """Chat, a stream, a response, images, a transcript; refusals as JSON, as text and in a stream."""
    import httpx
    import openai
    from birdfeed.integrations.openai import instrument

    provider = Provider(httpx.Response)
    http = httpx.Client(transport=httpx.MockTransport(provider))
    client = instrument(
        openai.OpenAI(api_key=marks.key, http_client=http, max_retries=0, default_headers=marks.headers)
    )
    said = {"role": "assistant", "content": marks.prompt, "tool_calls": marks.messages[2]["tool_calls"]}
    chat = {
        **OPENAI_CHAT,
        "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
        "usage": marks.usage(OPENAI_CHAT["usage"]),
        "extra": marks.prompt,
    }
    asked: Any = {
        "model": CONTROL, "messages": marks.messages, "tools": marks.tools, "user": marks.person,
        "metadata": {"chat": marks.chat}, "extra_headers": marks.headers, "extra_body": {"prompt": marks.prompt},
    }  # fmt: skip

    def ask(**more: Any) -> Any:
        return client.chat.completions.create(**asked, **more)

    provider.answer = chat
    ask()
    part = {**chat, "object": "chat.completion.chunk", "usage": None}
    part["choices"] = [{"index": 0, "delta": said, "finish_reason": None}]
    provider.answer = sse(part, {**part, "choices": [], "usage": chat["usage"]}, "[DONE]")
    list(ask(stream=True))
    provider.answer = {
        "id": "resp_1", "object": "response", "model": CONTROL, "status": "failed", "error": marks.refusal,
        "output": [], "instructions": marks.prompt, "conversation": {"id": marks.chat},
        "usage": marks.usage({"input_tokens": 3, "output_tokens": 4}),
    }  # fmt: skip
    client.responses.create(model=CONTROL, input=marks.prompt, instructions=marks.prompt, conversation=marks.chat)
    provider.answer = {"data": [{"b64_json": marks.prompt, "revised_prompt": marks.prompt}], "size": "1024x1024"}
    client.images.edit(model=CONTROL, prompt=marks.prompt, image=(f"{marks.file}.png", b"png"), user=marks.person)
    provider.answer = {"text": marks.prompt, "usage": marks.usage({"type": "duration", "seconds": 7})}
    client.audio.transcriptions.create(model=CONTROL, file=(f"{marks.file}.mp3", b"mp3"), prompt=marks.prompt)
    provider.answer = sse(part, {"error": marks.refusal})
    fails(lambda: list(ask(stream=True)))
    provider.status, provider.answer = 401, {"error": marks.refusal}
    fails(ask)
    provider.answer = marks.refusal["message"].encode()
    fails(ask)


def anthropic_calls(marks: Marks, seen: Callable[[], int]) -> None:
    """A message, a stream, and refusals as JSON, as text and in a stream."""
    import anthropic
    import httpx2
    from birdfeed.integrations.anthropic import instrument

    provider = Provider(httpx2.Response)
    http = httpx2.Client(transport=httpx2.MockTransport(provider))
    client = instrument(
        anthropic.Anthropic(api_key=marks.key, http_client=http, max_retries=0, default_headers=marks.headers)
    )
    tool = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"q": marks.prompt}}
    message = {
        **ANTHROPIC_MESSAGE,
        "content": [{"type": "text", "text": marks.prompt}, tool],
        "usage": marks.usage(ANTHROPIC_MESSAGE["usage"]),
    }
    asked: Any = {
        "model": CONTROL, "max_tokens": 9, "system": marks.prompt, "messages": [marks.messages[1]],
        "metadata": {"user_id": marks.person}, "tools": [{"name": "t", "description": marks.prompt}],
    }  # fmt: skip
    provider.answer = message
    client.messages.create(**asked)
    start = {"type": "message_start", "message": message}
    provider.answer = sse(start, {"type": "message_stop"}, named=True)
    list(client.messages.create(**asked, stream=True))
    refusal = {"type": "error", "error": marks.refusal}
    provider.answer = sse(start, refusal, named=True)
    fails(lambda: list(client.messages.create(**asked, stream=True)))
    provider.status, provider.answer = 400, refusal
    fails(lambda: client.messages.create(**asked))
    provider.answer = marks.refusal["message"].encode()
    fails(lambda: client.messages.create(**asked))


def google_calls(marks: Marks, seen: Callable[[], int]) -> None:
    """Content, a stream, and a refusal."""
    import httpx
    from birdfeed.integrations.google_genai import instrument
    from google import genai
    from google.genai import types

    provider = Provider(httpx.Response)
    options = types.HttpOptions(
        httpx_client=httpx.Client(transport=httpx.MockTransport(provider)), headers={"X-Prompt": marks.prompt}
    )
    client = instrument(genai.Client(api_key=marks.key, http_options=options))
    answer = {
        **GEMINI,
        "candidates": [{"content": {"role": "model", "parts": [{"text": marks.prompt}]}, "finishReason": "STOP"}],
        "usageMetadata": {**GEMINI["usageMetadata"], "trafficType": marks.prompt, "serviceTier": marks.prompt},
    }
    picture = types.Part.from_uri(file_uri=f"https://files.example/{marks.file}", mime_type="image/png")
    contents: Any = [marks.prompt, picture]
    config = types.GenerateContentConfig(system_instruction=marks.prompt, labels={"person": marks.person})

    def ask() -> Any:
        return client.models.generate_content(model=CONTROL, contents=contents, config=config)

    provider.answer = answer
    with contextlib.suppress(ValueError):  # labels are for Vertex AI
        ask()
    config.labels = None
    ask()
    provider.answer = sse(answer)
    list(client.models.generate_content_stream(model=CONTROL, contents=contents, config=config))
    provider.status, provider.answer = 400, {"error": marks.refusal}
    fails(ask)


class Hostile:
    """An object from an incompatible version of a library: every access fails, with a quoting message."""

    def __init__(self, quoted: str) -> None:
        self._quoted = quoted

    def __getattr__(self, name: str) -> Any:
        raise ValueError(self._quoted)


def litellm_calls(marks: Marks, seen: Callable[[], int]) -> None:
    """A completion, one that the provider refuses with a message, and unreadable objects."""
    import httpx
    import openai

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm
        from birdfeed.integrations.litellm import BirdfeedLogger

        provider = Provider(httpx.Response)
        provider.status, provider.answer = 400, {"error": marks.refusal}
        http = httpx.Client(transport=httpx.MockTransport(provider))
        asked: Any = {
            "model": f"openai/{CONTROL}", "messages": marks.messages, "user": marks.person, "api_key": marks.key,
            "metadata": {"session_id": marks.chat, "prompt": marks.prompt, "user_api_key": marks.key},
            "extra_headers": marks.headers,
        }  # fmt: skip
        before, litellm.callbacks = litellm.callbacks, [BirdfeedLogger()]
        try:
            before_any = seen()
            litellm.completion(**asked, mock_response=marks.prompt)
            refusing = openai.OpenAI(api_key=marks.key, http_client=http, max_retries=0)
            fails(lambda: litellm.completion(**asked, client=refusing))
            eventually(lambda: seen() >= before_any + 2, what="LiteLLM calls back in a thread of its own")
        finally:
            litellm.callbacks = before
        BirdfeedLogger().log_success_event(Hostile(marks.prompt), None, None, None)


def opentelemetry_calls(marks: Marks, seen: Callable[[], int]) -> None:
    """A span with all that instrumentations capture, two that failed, and unreadable objects."""
    from birdfeed.integrations.opentelemetry import BirdfeedSpanProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Status, StatusCode

    processor = BirdfeedSpanProcessor()
    provider = TracerProvider(resource=Resource({"process.command_args": marks.prompt}), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("marked")
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": CONTROL,
        "gen_ai.conversation.id": marks.chat,
        "user.id": marks.person,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.note": marks.prompt,
        f"gen_ai.usage.{marks.prompt}": 1,
        "http.request.header.authorization": f"Bearer {marks.key}",
        "url.full": f"https://api.example/?key={marks.key}&q={marks.prompt}",
        "file.name": marks.file,
        **dict.fromkeys(
            [
                *("gen_ai.prompt.0.content", "gen_ai.input.messages", "gen_ai.output.messages"),
                *("gen_ai.system_instructions", "gen_ai.tool.call.arguments", "gen_ai.tool.definitions"),
            ],
            marks.prompt,
        ),
    }
    tracer.start_span(marks.prompt, attributes=attributes).end()
    said = marks.refusal["message"]
    span = tracer.start_span("chat", attributes={**attributes, "error.type": marks.prompt})
    span.set_status(Status(StatusCode.ERROR, said))
    span.end()
    span = tracer.start_span("chat", attributes=attributes)
    span.add_event("exception", {"exception.type": "openai.BadRequestError", "exception.message": said})
    span.set_status(Status(StatusCode.ERROR, said))
    span.end()
    processor.on_end(Hostile(marks.prompt))  # type: ignore[arg-type]


#: Module of birdfeed.integrations → its calls.
CALLS: Mapping[str, Callable[[Marks, Callable[[], int]], None]] = {
    "openai": openai_calls,
    "anthropic": anthropic_calls,
    "google_genai": google_calls,
    "litellm": litellm_calls,
    "opentelemetry": opentelemetry_calls,
}
