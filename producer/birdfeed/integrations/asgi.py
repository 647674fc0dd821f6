"""FastAPI, Starlette, and any ASGI program: start birdfeed with the program, and flush before it ends.

    app = FastAPI(lifespan=birdfeed_lifespan())                # no lifespan of your own
    app = FastAPI(lifespan=birdfeed_lifespan(my_lifespan))     # around a lifespan of your own
    app = BirdfeedMiddleware(app)                              # any other ASGI program
    app.add_middleware(BirdfeedMiddleware, context=of_request) # FastAPI and Starlette: what a request's events inherit

Each worker process of the server starts and closes birdfeed for itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from birdfeed import api
from birdfeed.errors import ConfigurationError
from birdfeed.logging_once import logger
from birdfeed.request_context import Request, context, told_by
from birdfeed.typed import ContextFields

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Context: TypeAlias = Callable[[MutableMapping[str, Any]], ContextFields]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


def birdfeed_lifespan(own: Lifespan | None = None) -> Lifespan:
    """A lifespan that starts birdfeed before your `own` lifespan, and closes it afterwards.

    With wrong settings the program doesn't start: it raises ConfigurationError.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        await asyncio.to_thread(api.start)
        try:
            if own is None:
                yield
            else:
                async with own(app) as state:
                    yield state
        finally:
            await asyncio.to_thread(api.close)

    return lifespan


class BirdfeedMiddleware:
    """Starts and closes birdfeed with an ASGI program, and adds the fields that `context` returns to requests' events.

    If a `track` block sets no usage, status or error, its event is sent when the response begins; a 4xx or 5xx status
    is then recorded as its error.
    """

    def __init__(self, app: Asgi, *, context: Context | None = None) -> None:
        """`context` takes a request's scope and returns the fields its events inherit, such as {"request_id": ...}."""
        self._app = app
        self._context = context

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass everything on; start birdfeed when the program starts, and close it when the program ends."""
        if scope["type"] != "lifespan":
            if scope["type"] != "http":  # a websocket has no single response
                with context(**told_by(self._context, scope)):
                    await self._app(scope, receive, send)
                return
            with Request(**told_by(self._context, scope)) as request:

                async def send_seen(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        request.answered(message.get("status"))
                    await send(message)

                await self._app(scope, receive, send_seen)
            return

        async def send_after_closing(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await asyncio.to_thread(api.close)
            await send(message)

        # The program must start even if telemetry's settings are wrong: telemetry is then off, and the log says why.
        try:
            await asyncio.to_thread(api.start)
        except ConfigurationError as error:
            logger.error("telemetry is off: %s", error)
        await self._app(scope, receive, send_after_closing)
