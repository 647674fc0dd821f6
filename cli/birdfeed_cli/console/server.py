"""`birdfeed console`: serve it until Ctrl-C or SIGTERM."""

import socket

import uvicorn
from birdfeed_schemas.safety.urls import goes_in_clear
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.queue.connect import SOCKET_TIMEOUT, connect
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import console_token_of

from birdfeed_cli.common.console import OK, err
from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.console.access import Access
from birdfeed_cli.console.app import Console, make_app
from birdfeed_cli.console.replays import Runs
from birdfeed_cli.operate.status import ANSWER_SECONDS


def run_console(host: str | None, port: int | None) -> int:
    """Serve it.

    Args:
        host, port: Where; None: as the settings say.

    Raises:
        ConfigurationError: The settings are wrong, or no Redis is configured.
        WrongUse: The address can't be listened on, or is not this machine's own and there is no token.
    """
    settings = WorkerSettings.load()
    host = settings.console_host if host is None else host
    port = settings.console_port if port is None else port
    token = console_token_of(settings)
    if not token and goes_in_clear(f"http://{f'[{host}]' if ':' in host else host}"):
        raise WrongUse(f"on {host} others can reach the console: set BIRDFEED_CONSOLE_TOKEN, or listen on 127.0.0.1")
    try:
        connection = connect(settings.redis_url_text, tries=0, timeout=ANSWER_SECONDS)
        slower = connect(settings.redis_url_text, tries=1, timeout=SOCKET_TIMEOUT)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    names = frozenset(name.strip().lower() for name in settings.console_names.split(",") if name.strip())
    keys = Keys(settings.key_prefix, settings.queue)
    console = Console(
        connection=connection, keys=keys, access=Access(token), settings=settings, runs=Runs(slower, keys)
    )
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    how = "sign in with the token" if token else "read-only"
    err.print(f"birdfeed console on http://{shown}:{listener.getsockname()[1]}/ ({how})", soft_wrap=True)
    config = uvicorn.Config(
        make_app(console, names), log_level="warning", access_log=False, server_header=False, proxy_headers=False
    )
    try:
        uvicorn.Server(config).run([listener])
    finally:
        console.close()
        for one in (connection, slower):
            one.close()
    return OK


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise WrongUse(f"can't listen on {host}:{port}: {error.strerror or error}; --port chooses another") from None
