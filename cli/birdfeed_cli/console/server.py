"""Serve the console: with `birdfeed console` until Ctrl-C or SIGTERM, or with the launcher's pages on their port."""

import signal
import socket
from collections.abc import Collection
from contextlib import closing
from types import FrameType
from typing import Final

import uvicorn
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from birdfeed_schemas.safety.urls import goes_in_clear
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.process.http import PATHS, Listen, Pages
from birdfeed_worker.process.logs import configure_logs
from birdfeed_worker.queue.connect import SOCKET_TIMEOUT, connect
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import console_token_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from birdfeed_cli.common.console import OK, err
from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.console.access import Access
from birdfeed_cli.console.app import Console, make_app
from birdfeed_cli.console.replays import Runs
from birdfeed_cli.operate.status import ANSWER_SECONDS

#: Seconds that running requests are waited for at the end.
END_SECONDS: Final = 3
#: Threads for the launcher's own pages, so that probes never wait for the console's pages.
PAGE_THREADS: Final = 8


def run_console(host: str | None, port: int | None) -> int:
    """Serve the console on this host and port; None: as in the settings.

    Raises:
        ConfigurationError: The settings are wrong, or no Redis is configured.
        WrongUse: The address can't be listened on, or is not this machine's own and there is no token.
    """
    settings = WorkerSettings.load()
    host = settings.console_host if host is None else host
    port = settings.console_port if port is None else port
    if open_to_others(settings, host):
        raise WrongUse(f"on {host} others can reach the console: set BIRDFEED_CONSOLE_TOKEN, or listen on 127.0.0.1")
    console = console_of(settings, Keys(settings.key_prefix, settings.queue))
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise WrongUse(f"can't listen on {host}:{port}: {error.strerror or error}; --port chooses another") from None
    configure_logs(settings.log_format, settings.log_level)
    server = uvicorn.Server(_config(make_app(console, _names(settings))))

    def stop(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # Set before the URL is printed, because its reader may stop the console immediately. uvicorn has its own handlers
    # while it runs, and raises the signal again when it has stopped; by default that would kill running replays.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    how = "sign in with the token" if console.access.token else "read-only"
    err.print(f"birdfeed console on http://{_shown(host)}:{listener.getsockname()[1]}/ ({how})", soft_wrap=True)
    with closing(console):
        server.run([listener])
    return OK


def beside(settings: WorkerSettings, keys: Keys) -> Listen:
    """A function that serves the console and the launcher's pages on one port.

    The launcher's three pages need no sign-in, and their Host header isn't checked.

    Raises:
        ConfigurationError: Others could reach the console, and there is no token.
    """
    host = settings.metrics_host
    if open_to_others(settings, host):
        raise ConfigurationError(
            f"on {host} (BIRDFEED_METRICS_HOST) others can reach the console: set BIRDFEED_CONSOLE_TOKEN, or listen "
            "on 127.0.0.1"
        )
    console = console_of(settings, keys)

    def listen(pages: Pages, host: str, port: int) -> Beside:
        return Beside(console, pages, _listen(host, port), _names(settings))

    return listen


class Beside:
    """A server for the console and the launcher's pages on a listening socket; it runs in the calling thread."""

    def __init__(self, console: Console, pages: Pages, listener: socket.socket, names: Collection[str]) -> None:
        self._console = console
        self._listener = listener
        self.server_port: int = listener.getsockname()[1]
        threads = CapacityLimiter(PAGE_THREADS)

        async def page(request: Request) -> Response:
            made = await run_sync(pages.page, request.url.path, limiter=threads)
            return Response(made.body, made.status, {"Content-Type": made.content_type})

        routes = [*(Route(path, page) for path in PATHS), Mount("/", make_app(console, names))]
        self._server = uvicorn.Server(_config(Starlette(routes=routes)))

    def serve_forever(self) -> None:
        """Answer until `shutdown`."""
        self._server.run([self._listener])

    def shutdown(self) -> None:
        """Stop answering."""
        self._server.should_exit = True

    def server_close(self) -> None:
        """Release the port, and stop the console's background work."""
        self._listener.close()
        self._console.close()


def open_to_others(settings: WorkerSettings, host: str) -> bool:
    """Whether others could reach the console at this address without a token."""
    return not console_token_of(settings) and goes_in_clear(f"http://{_shown(host)}")


def console_of(settings: WorkerSettings, keys: Keys) -> Console:
    """The console for these settings; raises ConfigurationError if no Redis is configured."""
    try:
        connection = connect(settings.redis_url_text, tries=0, timeout=ANSWER_SECONDS)
        slower = connect(settings.redis_url_text, tries=1, timeout=SOCKET_TIMEOUT)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    access = Access(console_token_of(settings))
    return Console(connection=connection, keys=keys, access=access, settings=settings, runs=Runs(slower, keys))


def _config(app: Starlette) -> uvicorn.Config:
    # uvicorn's own log configuration would mix plain text into the launcher's JSON.
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=END_SECONDS,
    )


def _names(settings: WorkerSettings) -> Collection[str]:
    return frozenset(name.strip().lower() for name in settings.console_names.split(",") if name.strip())


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64)
