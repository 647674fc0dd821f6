"""FastAPI and images: `track` as a decorator, for your own work around a model call, or a client without an
integration.

uvicorn image_service:app
"""

import openai
from birdfeed import current_event, track
from birdfeed.integrations.asgi import birdfeed_lifespan
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI(lifespan=birdfeed_lifespan())
client = openai.AsyncOpenAI()


class Order(BaseModel):
    prompt: str
    user: str | None = None


@app.post("/images")
@track("image_generation", model="gpt-image-1", provider="openai", image_size="1024x1024", quality="medium")
async def paint(order: Order) -> dict[str, str | None]:
    """The event covers the whole function; current_event() adds fields that are known only inside it."""
    current_event().update(user=order.user)
    images = await client.images.generate(model="gpt-image-1", prompt=order.prompt, size="1024x1024", quality="medium")
    assert images.data is not None
    current_event().update(usage=images.usage, num_images=len(images.data))
    return {"url": images.data[0].url}


@app.exception_handler(openai.BadRequestError)
async def refused(request: Request, error: openai.BadRequestError) -> JSONResponse:
    return JSONResponse({"detail": "the model refuses this prompt"}, status_code=422)
