"""Connect to Redis as workers need it: timeouts on everything, and retries with growing waits."""

import socket
from contextlib import suppress
from typing import Final

from birdfeed_schemas.redis_url import client_of
from redis import Redis, exceptions
from redis.backoff import EqualJitterBackoff
from redis.connection import Connection
from redis.retry import Retry

#: Seconds for one answer; longer than the longest blocking call (2 s), and than a script over 500 jobs takes.
SOCKET_TIMEOUT: Final = 10.0
#: Seconds for connecting.
CONNECT_TIMEOUT: Final = 3.0
#: The name of birdfeed's connections in CLIENT LIST.
CLIENT_NAME: Final = "birdfeed-worker"
#: Advice for when Redis refuses the user or password.
LOG_IN: Final = "(BIRDFEED_REDIS_URL may hold them: redis://USER:PASSWORD@HOST:PORT/DB)"


def greet(connection: Connection) -> None:
    """Set up a new connection: log in, choose the database, and name the connection if CLIENT is allowed."""
    # Without redis-py's health check at a new connection's first command: if the log-in is refused, it would reconnect
    # for its PING, and recurse until the stack overflows.
    interval, connection.health_check_interval = connection.health_check_interval, 0
    try:
        connection.on_connect()
    finally:
        connection.health_check_interval = interval
    with suppress(exceptions.ResponseError):
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
        connection.read_response()


def connect(url: str, *, tries: int = 20, timeout: float = SOCKET_TIMEOUT) -> Redis:
    """A client that retries a failed command for about `tries` half-seconds before it raises.

    `timeout` is in seconds, for each answer and, up to CONNECT_TIMEOUT, for connecting.

    Scripts can be retried safely: reserve adopts the jobs of an unanswered reserve, and settle does nothing the second
    time.
    """
    return client_of(
        url,
        {
            "socket_timeout": timeout,
            "socket_connect_timeout": min(timeout, CONNECT_TIMEOUT),
            "health_check_interval": 15,
            "retry": Retry(EqualJitterBackoff(cap=1.0, base=0.05), tries),
            "retry_on_error": [
                exceptions.ConnectionError,
                exceptions.TimeoutError,
                exceptions.BusyLoadingError,
                exceptions.ReadOnlyError,
                socket.timeout,
            ],
            "redis_connect_func": greet,
        },
    )
