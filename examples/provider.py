"""A model provider that answers without a network, in the shapes real ones have."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel


class Usage(BaseModel):
    """As OpenAI's SDK gives it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int] = {}


class Answer(BaseModel):
    id: str
    model: str
    text: str
    usage: Usage


@dataclass
class ImageUsage:
    """As an image SDK may give it: no pydantic here."""

    input_tokens: int
    output_tokens: int
    details: dict[str, int] = field(default_factory=dict)


@dataclass
class Image:
    model: str
    url: str
    usage: ImageUsage


class OverloadedError(Exception):
    """The provider has too much to do."""

    status_code = 503


async def answer(prompt: str) -> Answer:
    """A whole answer; the prompt "fail" makes the provider fail."""
    await asyncio.sleep(0.01)
    if prompt == "fail":
        raise OverloadedError("the model is overloaded")
    words = len(prompt.split())
    return Answer(id="resp-1", model="gpt-4o-mini-2024-07-18", text=prompt.upper(), usage=_usage(words, words))


async def stream(prompt: str) -> AsyncIterator[tuple[str, Usage | None]]:
    """An answer word by word; the last part has the usage. The prompt "fail" breaks in the middle."""
    words = prompt.split()
    for number, word in enumerate(words):
        await asyncio.sleep(0.01)
        if word == "fail":
            raise OverloadedError("the model is overloaded")
        yield word.upper() + " ", _usage(len(words), len(words)) if number == len(words) - 1 else None


async def paint(prompt: str, size: str) -> Image:
    """An image; the prompt "fail" makes the provider fail."""
    await asyncio.sleep(0.01)
    if prompt == "fail":
        raise OverloadedError("the model is overloaded")
    return Image(model="gpt-image-1", url=f"https://images.example/{size}.png", usage=ImageUsage(12, 1_056))


def _usage(prompt: int, completion: int) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details={"cached_tokens": 0},
    )
