"""Answers of providers, for SDKs whose transport is in the test's own process."""

import json
from collections.abc import Callable, Mapping
from typing import Any

#: Is in each prompt and answer, and must be in no event.
SECRET = "the-secret-text"

#: A chat completion as OpenAI's API answers it.
OPENAI_CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SECRET}}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 8},
    },
}
#: A message as Anthropic's API answers it.
ANTHROPIC_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-test-20261101",
    "content": [{"type": "text", "text": SECRET}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 20,
        "output_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "service_tier": "priority",
    },
}
#: An answer of the Gemini API, and the last part of a streamed one.
GEMINI: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": SECRET}]}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 20,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 8,
        "totalTokenCount": 30,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 15}, {"modality": "AUDIO", "tokenCount": 5}],
    },
    "modelVersion": "gemini-2.5-flash-001",
    "responseId": "resp-1",
}


def sse(*parts: Mapping[str, Any] | str, named: bool = False) -> bytes:
    """Server-sent events; with `named` each has its type as its name, as from Anthropic and OpenAI's Responses API."""
    lines = []
    for part in parts:
        if named and isinstance(part, Mapping):
            lines.append(f"event: {part['type']}\n")
        lines.append(f"data: {part if isinstance(part, str) else json.dumps(part)}\n\n")
    return "".join(lines).encode()


class Provider:
    """A server in the test's process; `answer` is the next answer's JSON, or bytes of server-sent events."""

    def __init__(self, response: Callable[..., Any]) -> None:
        """`response` makes a response of the HTTP library that the SDK uses."""
        self._response = response
        self.answer: Any = {}
        self.status = 200
        self.asked: list[Any] = []

    def __call__(self, request: Any) -> Any:
        """Handle one request of a MockTransport."""
        body = request.content
        self.asked.append(json.loads(body) if body.startswith(b"{") else body)
        if isinstance(self.answer, bytes):
            return self._response(self.status, content=self.answer, headers={"content-type": "text/event-stream"})
        return self._response(self.status, json=self.answer)
