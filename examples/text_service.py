"""FastAPI and the OpenAI SDK: answers, whole and streamed.

uvicorn text_service:app

Two lines set birdfeed up, and nothing is added where the model is called: `birdfeed_lifespan` and `instrument`.
"""

from collections.abc import AsyncIterator

import openai
from birdfeed.integrations.asgi import birdfeed_lifespan
from birdfeed.integrations.openai import instrument
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(lifespan=birdfeed_lifespan())
client = instrument(openai.AsyncOpenAI(), include_usage=True)


class Question(BaseModel):
    prompt: str
    user: str = "nobody"


@app.post("/answer")
async def answer(question: Question) -> dict[str, str | None]:
    """A whole answer."""
    try:
        got = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question.prompt}], user=question.user
        )
    except openai.BadRequestError as error:
        raise HTTPException(422, "the model refuses this prompt") from error
    return {"text": got.choices[0].message.content}


@app.post("/stream")
async def stream(question: Question) -> StreamingResponse:
    """The event is sent when the last part was read, or when the client disconnects."""
    return StreamingResponse(parts(question), media_type="text/plain")


async def parts(question: Question) -> AsyncIterator[str]:
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question.prompt}], user=question.user, stream=True
    )
    async for part in stream:
        yield part.choices[0].delta.content or ""
