"""The HTTP server: routes, uvicorn, and a clean shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from birdfeed_sandbox.http.control_api import Control
from birdfeed_sandbox.http.delete_api import Deletes
from birdfeed_sandbox.http.events_api import Events
from birdfeed_sandbox.http.own_host import OwnHost
from birdfeed_sandbox.http.query_api import Reads
from birdfeed_sandbox.http.responses import TRANSPORT
from birdfeed_sandbox.http.state import Service

#: Seconds for running requests when the server is told to stop; the waits of faults end immediately.
_GRACE_SECONDS: Final = 3
#: Seconds for which idle connections are kept, as load balancers do.
_KEEP_ALIVE_SECONDS: Final = 75


def create_app(service: Service, host_names: Iterable[str] = ()) -> Starlette:
    """The ASGI application; `host_names`: see OwnHost."""
    events, reads, control, deletes = Events(service), Reads(service), Control(service), Deletes(service)
    return Starlette(
        routes=[
            Route("/v0/events", events.post, methods=["POST"]),
            Route("/v0/sql", reads.sql, methods=["GET", "POST"]),
            Route("/v0/pipes/{file}", reads.pipe, methods=["GET", "POST"]),
            Route("/v0/datasources/{name}", reads.datasource, methods=["GET"]),
            Route("/v0/datasources/{name}/delete", deletes.delete, methods=["POST"]),
            Route("/v0/jobs/{id}", deletes.job, methods=["GET"]),
            Route("/_sandbox/fault", control.guarded(control.add_fault), methods=["POST"]),
            Route("/_sandbox/fault", control.guarded(control.clear_faults), methods=["DELETE"]),
            Route("/_sandbox/state", control.guarded(control.state), methods=["GET"]),
            Route("/_sandbox/reset", control.guarded(control.reset), methods=["POST"]),
            Route("/_sandbox/tables", control.guarded(control.replace_table), methods=["POST"]),
            Route("/_sandbox/sql", control.guarded(control.sql), methods=["POST"]),
        ],
        middleware=[Middleware(OwnHost, names=frozenset(map(str.lower, host_names)))],
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises OSError if the address is taken, or isn't this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol given, asyncio turns Nagle's algorithm off, which would cost 40 ms per answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    service: Service,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    parent_fd: int | None,
    host_names: Iterable[str] = (),
) -> None:
    """Answer requests until SIGINT, SIGTERM or the end of the parent process.

    Args:
        service, listener: The state, and the listening socket.
        on_ready: Called once requests are accepted.
        parent_fd: The reading end of a pipe whose writing end the parent holds; None: don't watch a parent.
        host_names: Host names accepted besides localhost and IP addresses.

    Raises:
        SandboxError: The workspace can't be opened.
    """
    config = uvicorn.Config(
        create_app(service, host_names),
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, service, on_ready)
    asyncio.run(server.until_stopped(listener, parent_fd))


class _Protocol(H11Protocol):
    """Gives each request its connection, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready

    async def until_stopped(self, listener: socket.socket, parent_fd: int | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        if parent_fd is not None:
            loop.add_reader(parent_fd, self._parent_spoke, loop, parent_fd)
        await self._service.start()
        try:
            await self.serve(sockets=[listener])
        finally:
            await self._service.stop()

    def _stop(self) -> None:
        self.should_exit = True
        self._service.watch.stop()

    def _parent_spoke(self, loop: asyncio.AbstractEventLoop, parent_fd: int) -> None:
        if not os.read(parent_fd, 1024):
            loop.remove_reader(parent_fd)
            self._stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn would raise the signal again after a clean stop, and the process would die from it.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> Any:
        self._service.watch.stop()
        await super().shutdown(sockets)
