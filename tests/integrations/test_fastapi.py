"""A request's fields under FastAPI."""

from typing import Any

import birdfeed
from birdfeed import track, track_event
from birdfeed.integrations.asgi import BirdfeedMiddleware
from birdfeed.testing import Captured
from birdfeed.typed import ContextFields
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient


def test_every_event_of_a_request_inherits(events: Captured) -> None:
    """By the middleware: in coroutines, in Starlette's thread pool, and in a stream that is sent after the handler."""
    app = FastAPI()

    @app.get("/async")
    async def in_loop() -> None:
        track_event("text_generation", {"model": "m"})

    @app.get("/sync")
    def in_pool() -> None:
        track_event("text_generation", {"model": "m"})

    @app.get("/stream")
    @track("text_generation", model="m")
    async def streamed() -> StreamingResponse:
        async def parts() -> Any:
            yield "a"
            track_event("text_generation", {"model": "m"})

        return StreamingResponse(parts())

    def of_request(scope: Any) -> ContextFields:
        if scope["path"] == "/broken":
            raise KeyError("x")
        return {"user": scope["path"]}

    app.add_middleware(BirdfeedMiddleware, context=of_request)  # type: ignore[arg-type, unused-ignore]
    client = TestClient(app)
    for path in ("/async", "/sync", "/stream"):
        assert client.get(path).status_code == 200
    assert client.get("/broken").status_code == 404

    assert [event.data.get("user") for event in events] == ["/async", "/sync", "/stream", "/stream"]
    assert birdfeed.stats().dropped == {}
