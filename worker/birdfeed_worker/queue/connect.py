"""Connect to Redis as a worker needs it: timeouts on everything, retries with growing waits, no hot loop."""

import socket

from birdfeed_schemas.redis_url import client_of
from redis import Redis, exceptions
from redis.backoff import EqualJitterBackoff
from redis.retry import Retry

#: Seconds for one answer; longer than the longest blocking call (2 s) and than a script over 500 jobs.
SOCKET_TIMEOUT = 10.0


def connect(url: str, *, tries: int = 20) -> Redis:
    """A client that tries a failed command again for about `tries` half-seconds before it raises.

    Scripts are safe to try again: take adopts what an unanswered take took, settle's fence refuses a second time.
    """
    return client_of(
        url,
        {
            "socket_timeout": SOCKET_TIMEOUT,
            "socket_connect_timeout": 3.0,
            "health_check_interval": 15,
            "retry": Retry(EqualJitterBackoff(cap=1.0, base=0.05), tries),
            "retry_on_error": [
                exceptions.ConnectionError,
                exceptions.TimeoutError,
                exceptions.BusyLoadingError,
                exceptions.ReadOnlyError,
                socket.timeout,
            ],
            "client_name": "birdfeed-worker",
        },
    )
