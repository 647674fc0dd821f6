"""Connect to Redis as workers need it: timeouts on everything, and retries with growing waits."""

import socket
from typing import Final

from birdfeed_schemas.redis_url import client_of
from redis import Redis, exceptions
from redis.backoff import EqualJitterBackoff
from redis.retry import Retry

#: Seconds for one answer; longer than the longest blocking call (2 s), and than a script over 500 jobs takes.
SOCKET_TIMEOUT: Final = 10.0
#: Seconds for connecting.
CONNECT_TIMEOUT: Final = 3.0
#: The name of birdfeed's connections in CLIENT LIST.
CLIENT_NAME: Final = "birdfeed-worker"
#: Advice for when Redis refuses the user or password.
LOG_IN: Final = "(BIRDFEED_REDIS_URL may hold them: redis://USER:PASSWORD@HOST:PORT/DB)"


def connect(url: str, *, tries: int = 20, timeout: float = SOCKET_TIMEOUT) -> Redis:
    """A client that retries a failed command for about `tries` half-seconds before it raises.

    `timeout` is in seconds, for each answer and, up to CONNECT_TIMEOUT, for connecting.

    Scripts can be retried safely: reserve adopts the jobs of an unanswered reserve, and settle does nothing the second
    time.
    """
    return client_of(
        url,
        CLIENT_NAME,
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
        },
    )
