"""A model provider that runs without network: it answers as OpenAI, Anthropic and Google do, and counts the tokens.

uvicorn provider:app --port 9000

A token is a word; half of a prompt's words count as cached. The prompt "fail" is refused. GET /counted lists what was
answered so far.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

#: What was answered: model, input tokens, cached tokens among them, output tokens.
counted: list[dict[str, Any]] = []


def words_of(content: Any) -> list[str]:
    """The words of a prompt: text, or parts that have a text."""
    if isinstance(content, str):
        return content.split()
    return [word for part in content for word in words_of(part.get("text") or part.get("content") or "")]


def count(model: str, prompt: list[str]) -> tuple[int, int, int]:
    """Count and record a call: the prompt's tokens, the cached ones among them, and the answer (the prompt in
    capitals).
    """
    tokens = len(prompt), len(prompt) // 2, len(prompt)
    counted.append({"model": model, "prompt": tokens[0], "cached": tokens[1], "completion": tokens[2]})
    return tokens


def sse(parts: Iterable[dict[str, Any] | str]) -> Iterator[str]:
    """Server-sent events."""
    for part in parts:
        name = f"event: {part['type']}\n" if isinstance(part, dict) and "type" in part else ""
        yield f"{name}data: {part if isinstance(part, str) else json.dumps(part)}\n\n"


def refused(message: str) -> Response:
    """An error body that is close enough to all three providers'."""
    error = {"type": "invalid_request_error", "code": "invalid_prompt", "message": message, "status": "INVALID"}
    return JSONResponse({"type": "error", "error": error}, status_code=400)


async def openai_chat(request: Request) -> Response:
    """POST /v1/chat/completions."""
    asked = await request.json()
    prompt = words_of(asked["messages"])
    if prompt == ["fail"]:
        return refused(f"the prompt {prompt} is refused")
    came, cached, went = count(asked["model"], prompt)
    usage = {
        "prompt_tokens": came,
        "completion_tokens": went,
        "total_tokens": came + went,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    whole = {
        "id": f"chatcmpl-{len(counted)}",
        "created": 1,
        "model": f"{asked['model']}-2024-07-18",
        "service_tier": "default",
    }
    if not asked.get("stream"):
        message = {"role": "assistant", "content": " ".join(prompt).upper()}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return JSONResponse({**whole, "object": "chat.completion", "choices": [choice], "usage": usage})

    def parts() -> Iterator[dict[str, Any] | str]:
        part = {**whole, "object": "chat.completion.chunk"}
        for word in prompt:
            yield {**part, "choices": [{"index": 0, "delta": {"content": f"{word.upper()} "}, "finish_reason": None}]}
        yield {**part, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if (asked.get("stream_options") or {}).get("include_usage"):
            yield {**part, "choices": [], "usage": usage}
        yield "[DONE]"

    return StreamingResponse(sse(parts()), media_type="text/event-stream")


async def openai_images(request: Request) -> Response:
    """POST /v1/images/generations."""
    asked = await request.json()
    prompt = words_of(asked["prompt"])
    if prompt == ["fail"]:
        return refused("the prompt is refused")
    counted.append({"model": asked["model"], "prompt": len(prompt), "cached": 0, "completion": 1_056})
    usage = {
        "input_tokens": len(prompt),
        "output_tokens": 1_056,
        "total_tokens": len(prompt) + 1_056,
        "input_tokens_details": {"text_tokens": len(prompt), "image_tokens": 0},
    }
    return JSONResponse({"created": 1, "data": [{"url": "https://images.example/1.png"}], "usage": usage})


async def anthropic_messages(request: Request) -> Response:
    """POST /v1/messages. Anthropic counts cached tokens beside the input, not in it."""
    asked = await request.json()
    prompt = words_of(asked["messages"])
    if prompt == ["fail"]:
        return refused("the prompt is refused")
    came, cached, went = count(asked["model"], prompt)
    usage = {"input_tokens": came - cached, "cache_read_input_tokens": cached, "output_tokens": went}
    message = {"id": f"msg_{len(counted)}", "type": "message", "role": "assistant", "model": asked["model"]}
    if not asked.get("stream"):
        content = [{"type": "text", "text": " ".join(prompt).upper()}]
        return JSONResponse({**message, "content": content, "stop_reason": "end_turn", "usage": usage})

    def parts() -> Iterator[dict[str, Any]]:
        yield {"type": "message_start", "message": {**message, "content": [], "usage": {**usage, "output_tokens": 1}}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for word in prompt:
            delta = {"type": "text_delta", "text": f"{word.upper()} "}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": went}}
        yield {"type": "message_stop"}

    return StreamingResponse(sse(parts()), media_type="text/event-stream")


async def gemini(request: Request) -> Response:
    """POST /VERSION/models/MODEL:generateContent, and MODEL:streamGenerateContent."""
    model, _, method = request.path_params["call"].partition(":")
    prompt = words_of([part for content in (await request.json())["contents"] for part in content["parts"]])
    if prompt == ["fail"]:
        return refused("the prompt is refused")
    came, cached, went = count(model, prompt)
    usage = {
        "promptTokenCount": came,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": went,
        "totalTokenCount": came + went,
    }

    def part(text: str) -> dict[str, Any]:
        content = {"role": "model", "parts": [{"text": text}]}
        return {"candidates": [{"content": content}], "modelVersion": model, "responseId": f"resp-{len(counted)}"}

    if method == "generateContent":
        return JSONResponse({**part(" ".join(prompt).upper()), "usageMetadata": usage})
    *first, last = [part(f"{word.upper()} ") for word in prompt]
    return StreamingResponse(sse([*first, {**last, "usageMetadata": usage}]), media_type="text/event-stream")


async def told(request: Request) -> Response:
    """GET /counted."""
    return JSONResponse(counted)


app = Starlette(
    routes=[
        Route("/v1/chat/completions", openai_chat, methods=["POST"]),
        Route("/v1/images/generations", openai_images, methods=["POST"]),
        Route("/v1/messages", anthropic_messages, methods=["POST"]),
        Route("/{version}/models/{call:path}", gemini, methods=["POST"]),
        Route("/counted", told),
    ]
)
