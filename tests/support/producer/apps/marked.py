"""An ASGI program with markers in its requests, errors and answers; run once, from start-up to shutdown.

Its environment variables say where the events go; it prints only what a program's log would have.
"""

import asyncio
import logging
import os
from typing import Any

import birdfeed
import httpx
from birdfeed.integrations.asgi import BirdfeedMiddleware

TEXT, IMAGE = birdfeed.EventType("text_generation"), birdfeed.EventType("image_generation")

PROMPT, PERSON, CHAT = (os.environ[f"MARK_{name}"] for name in ("PROMPT", "PERSON", "CHAT"))


def generation(number: str, **more: Any) -> dict[str, Any]:
    """The fields that a careless handler passes."""
    return {
        "model": "gpt-4.1-nano",
        "request_id": number,
        "user": PERSON,
        "userName": PERSON,
        "chatId": CHAT,
        "cache_key": CHAT,
        "prompt": PROMPT,
        "messages": [{"role": "user", "content": PROMPT}],
        "choices": [{"message": {"content": PROMPT}}],
        "image": PROMPT.encode(),
        "referrer": f"https://chat.example/{PROMPT}?q={PROMPT}",
        "moderation": {"hate": {"filtered": True, "severity": PROMPT, PROMPT: True}, PROMPT: True},
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "note": f"{PROMPT} {PROMPT}"},
        **more,
    }


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tracks a generation, one that failed, one that can't be written, and one of an unknown type."""
    number = scope["path"].strip("/")
    try:
        raise ValueError(f"the model refused the input '{PROMPT}' of user: {PERSON}")
    except ValueError as error:
        birdfeed.track_event(TEXT, generation(f"{number}-failed", status="error", error=error))
    birdfeed.track_event(TEXT, generation(f"{number}-good"))
    birdfeed.track_event(IMAGE, generation(f"{number}-bad", num_images=-1, model={"name": PROMPT}))
    birdfeed.track_event(birdfeed.EventType("made_up"), generation(f"{number}-unknown"))
    birdfeed.track_event("text_generation", PROMPT)  # type: ignore[call-overload]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def main() -> None:
    """Send three requests through the middleware."""
    transport = httpx.ASGITransport(app=BirdfeedMiddleware(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
        for number in range(3):
            assert (await client.get(f"/{number}", headers={"X-Prompt": PROMPT})).text == "done"


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(main())
    birdfeed.close()
