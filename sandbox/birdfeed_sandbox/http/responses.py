"""Answers, and the ways in which an answer can fail to arrive."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from birdfeed_sandbox.faults.spec import OddAnswer

#: A gateway's answer when no server is behind it.
HTML_503: Final = b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n</html>\r\n"
HTML_200: Final = b"<html>\r\n<head><title>Please log in to the network</title></head>\r\n</html>\r\n"

_JSON: Final = "application/json; charset=utf-8"
#: JSON that has neither the shape of an events answer nor of a query's.
_OTHER_SHAPE: Final = b'{"successful_rows":"all","quarantined_rows":null,"data":null,"meta":[{}],"columns":[[]]}'

#: Key of the connection's transport in a request's state (see server.py).
TRANSPORT: Final = "transport"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it becomes bytes on a connection."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """An answer whose body is JSON."""
        return cls(status, orjson.dumps(content), _JSON, headers or {})

    def response(self) -> Response:
        """The answer as Starlette's Response."""
        return Response(self.body, self.status, dict(self.headers), self.content_type)


class Dropped(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection."""
        _reset(scope["state"][TRANSPORT])
        await _gone(receive)


class Halved(Response):
    """Half an answer, then the connection is closed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status, dict(answer.headers), answer.content_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and half of the body, then close the connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"][TRANSPORT].close()
        await _gone(receive)


class Watch:
    """Waits that end early if the client disconnects or the server stops."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every wait."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether the server is stopping."""
        return self._stopping.is_set()

    async def pause(self, seconds: float) -> bool:
        """Wait, even if the client disconnects; returns False if the server stops meanwhile."""
        if seconds > 0:
            await _first_of(seconds, self._stopping.wait())
        return not self._stopping.is_set()

    async def until_gone(self, receive: Receive, seconds: float | None) -> bool:
        """Wait until the client disconnects, for at most `seconds`; returns whether it did."""
        gone = asyncio.ensure_future(_gone(receive))
        await _first_of(seconds, self._stopping.wait(), gone)
        return gone.done() and not gone.cancelled()


class Dripped(Response):
    """An answer that never ends: a space from time to time, until the client disconnects or the server stops."""

    def __init__(self, answer: Answer, watch: Watch) -> None:
        super().__init__(b"", answer.status, {**answer.headers, "Content-Length": "1000000"}, answer.content_type)
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then the endless body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = False
        while not gone and not self._watch.stopping:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            gone = await self._watch.until_gone(receive, 0.1)
        _reset(scope["state"][TRANSPORT])


def odd(answer: Answer, kind: OddAnswer, watch: Watch) -> Response:
    """A malformed response in place of an answer."""
    match kind:
        case "charset":
            text = answer.body.decode().encode("utf-16")
            return Answer(answer.status, text, "application/json; charset=utf-16", answer.headers).response()
        case "bomb":
            return Answer(answer.status, _bomb(), _JSON, {**answer.headers, "Content-Encoding": "gzip"}).response()
        case "drip":
            return Dripped(answer, watch)
        case "shape":
            return Answer(answer.status, _OTHER_SHAPE, _JSON, answer.headers).response()
        case "redirect":
            return Answer(
                307, b"", "text/html", {**answer.headers, "Location": "https://elsewhere.invalid/"}
            ).response()


@functools.cache
def _bomb() -> bytes:
    """A tenth of a megabyte that unpacks to a hundred megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(10**6)) for _ in range(100)) + packer.flush()


async def _first_of(seconds: float | None, *awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    _, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def _gone(receive: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _reset(transport: asyncio.Transport) -> None:
    """Close the connection immediately, with RST instead of FIN; does nothing if it is already closed."""
    if transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
