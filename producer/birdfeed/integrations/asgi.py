"""FastAPI, Starlette, and any ASGI program: start with the program, and flush before it ends.

app = FastAPI(lifespan=birdfeed_lifespan())                # nothing else to start
app = FastAPI(lifespan=birdfeed_lifespan(my_lifespan))     # around a lifespan of your own
app = BirdfeedMiddleware(app)                              # any other ASGI program
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from birdfeed import api
from birdfeed.errors import ConfigurationError
from birdfeed.logging_once import logger

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Asgi: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


def birdfeed_lifespan(own: Lifespan | None = None) -> Lifespan:
    """A lifespan that starts birdfeed before, and closes it after, your `own`.

    Wrong settings stop the program's start with a ConfigurationError, where a person sees it.
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
    """Wraps an ASGI program that has no lifespan argument."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass everything on; at the start and the end of the program, start and close birdfeed."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_after_closing(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await asyncio.to_thread(api.close)
            await send(message)

        # The program's own start must not fail for its telemetry's settings, and it has no other way to be told: the
        # log says what is wrong, and telemetry is off.
        try:
            await asyncio.to_thread(api.start)
        except ConfigurationError as error:
            logger.error("telemetry is off: %s", error)
        await self._app(scope, receive, send_after_closing)
