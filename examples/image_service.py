"""An image service that tracks each generation, with the decorator instead of the block.

BIRDFEED_REDIS_URL=... uvicorn image_service:app --port 8001
"""

import provider
from birdfeed import current_event, track
from birdfeed.integrations.asgi import birdfeed_lifespan
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI(lifespan=birdfeed_lifespan())


class Order(BaseModel):
    prompt: str
    size: str = "1024x1024"
    quality: str = "medium"
    user: str | None = None


@app.post("/images")
@track("image_generation", model="gpt-image-1", provider="openai")
async def paint(order: Order) -> dict[str, str]:
    """Whatever happens in here is in the event; current_event() adds what is known only now."""
    event = current_event()
    event.update(user=order.user, image_size=order.size, quality=order.quality, num_images=1)
    image = await provider.paint(order.prompt, order.size)
    event.update(model_used=image.model, usage=image.usage)
    return {"url": image.url}


@app.exception_handler(provider.OverloadedError)
async def overloaded(request: Request, error: provider.OverloadedError) -> JSONResponse:
    return JSONResponse({"detail": "try again later"}, status_code=503)
