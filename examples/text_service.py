"""A text service that tracks each generation: success, error, stream, and answers from its cache.

birdfeed up                                        # in one terminal
BIRDFEED_REDIS_URL=... uvicorn text_service:app    # in another, with the URL `birdfeed up` prints
curl -s localhost:8000/answer -d '{"prompt": "hello there", "user": "ada"}' -H 'Content-Type: application/json'
"""

from collections.abc import AsyncIterator

import provider
from birdfeed import track, track_event
from birdfeed.integrations.asgi import birdfeed_lifespan
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(lifespan=birdfeed_lifespan())
cache: dict[str, str] = {}


class Question(BaseModel):
    prompt: str
    user: str | None = None


@app.post("/answer")
async def answer(question: Question) -> dict[str, str]:
    """`track` times the work and sends one event, also when it raises or the client goes away."""
    if question.prompt in cache:
        # Nothing was generated, so there is nothing to time: one call says all.
        track_event(
            "text_generation",
            {"model": "gpt-4o-mini", "user": question.user, "status": "success", "cache_hit": True},
        )
        return {"text": cache[question.prompt]}
    try:
        with track("text_generation", model="gpt-4o-mini", user=question.user, provider="openai") as event:
            got = await provider.answer(question.prompt)
            event.update(model_used=got.model, response_id=got.id, usage=got.usage)
    except provider.OverloadedError as error:
        raise HTTPException(503, "try again later") from error
    cache[question.prompt] = got.text
    return {"text": got.text}


@app.post("/stream")
async def stream(question: Question) -> StreamingResponse:
    """The event is sent when the last part is, or when the client has had enough."""
    return StreamingResponse(parts(question), media_type="text/plain")


async def parts(question: Question) -> AsyncIterator[str]:
    with track("text_generation", model="gpt-4o-mini", user=question.user, stream=True) as event:
        async for text, usage in provider.stream(question.prompt):
            if usage is not None:
                event["usage"] = usage
            yield text
