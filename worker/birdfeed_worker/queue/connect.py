"""Connect to Redis as a worker needs it: timeouts on everything, retries with growing waits, no hot loop."""

import socket
from contextlib import suppress
from typing import Final

from birdfeed_schemas.redis_url import client_of
from redis import Redis, exceptions
from redis.backoff import EqualJitterBackoff
from redis.connection import Connection
from redis.retry import Retry

#: Seconds for one answer; longer than the longest blocking call (2 s) and than a script over 500 jobs.
SOCKET_TIMEOUT: Final = 10.0
#: Seconds for a connection to be made.
CONNECT_TIMEOUT: Final = 3.0
#: What CLIENT LIST calls our connections.
CLIENT_NAME: Final = "birdfeed-worker"
#: What to do where Redis refuses the user or password.
LOG_IN: Final = "(BIRDFEED_REDIS_URL may hold them: redis://USER:PASSWORD@HOST:PORT/DB)"


def greet(connection: Connection) -> None:
    """What is said on a new connection: log in, choose the database, and give it a name where CLIENT is allowed."""
    # Without the health check that redis-py makes of a new connection's first command: where the log-in is refused, it
    # would connect again for its PING, and so on until the stack is full.
    interval, connection.health_check_interval = connection.health_check_interval, 0
    try:
        connection.on_connect()
    finally:
        connection.health_check_interval = interval
    with suppress(exceptions.ResponseError):
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
        connection.read_response()


def connect(url: str, *, tries: int = 20, timeout: float = SOCKET_TIMEOUT) -> Redis:
    """A client that tries a failed command again for about `tries` half-seconds before it raises.

    `timeout` is in seconds, for each answer and, up to CONNECT_TIMEOUT, for connecting.

    Scripts are safe to try again: take adopts what an unanswered take took, settle's fence refuses a second time.
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
