"""Connect to Redis or Valkey, with a time limit on everything; birdfeed_schemas.redis_url lists the accepted URLs.

redis-py is set to never retry a command: the flusher must know whether an answer was lost, in order to mark the batch.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from birdfeed_schemas.redis_url import client_of
from redis import CredentialProvider, Redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ResponseError
from redis.retry import Retry

#: Returns (user name, password), or (password,), for each new connection.
Credentials: TypeAlias = Callable[[], tuple[str] | tuple[str, str]]


def connect(url: str, *, timeout: float, credentials: Credentials | None = None) -> Redis:
    """A client; it doesn't connect before the first command.

    Args:
        url: Any form that redis_url lists.
        timeout: Seconds for connecting, and for each answer.
        credentials: Called at each new connection for the name and password, so that they can be rotated.

    Raises:
        ValueError: The URL has none of these forms.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "redis_connect_func": _set_up,
    }
    if credentials is not None:
        options["credential_provider"] = _Provider(credentials)
    return client_of(url, options)


#: Shown by CLIENT LIST.
_NAME: Final = "birdfeed-producer"


def _set_up(connection: Connection) -> None:
    """Log in and choose the database, as redis-py does, then set the connection's name if this user may."""
    connection.on_connect()
    connection.send_command("CLIENT", "SETNAME", _NAME)
    with suppress(ResponseError):  # an ACL without CLIENT; the name is optional
        connection.read_response()


class _Provider(CredentialProvider):
    """Adapts a function to redis-py's CredentialProvider."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return self._credentials()
