"""Connect to Redis or Valkey, with a time limit on everything; birdfeed_schemas.safety.redis_url lists the URLs.

redis-py is set to never retry a command: the flusher must know whether an answer was lost, in order to mark the batch.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from birdfeed_schemas.redis_url import client_of
from redis import CredentialProvider, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Returns (user name, password), or (password,), for each new connection.
Credentials: TypeAlias = Callable[[], tuple[str] | tuple[str, str]]


def connect(url: str, *, timeout: float, credentials: Credentials | None = None) -> Redis:
    """A client; it doesn't connect before the first command.

    Args:
        url: Any form that safety/redis_url.py lists.
        timeout: Seconds for connecting, and for each answer.
        credentials: Called at each new connection for the name and password, so that they can be rotated.

    Raises:
        ValueError: The URL has none of these forms.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    if credentials is not None:
        options["credential_provider"] = _Provider(credentials)
    return client_of(url, "birdfeed-producer", options)


class _Provider(CredentialProvider):
    """Adapts a function to redis-py's CredentialProvider."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return self._credentials()
