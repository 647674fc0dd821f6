"""Connect to Redis or Valkey, with a time limit on everything; birdfeed_schemas.redis_url lists the URLs.

redis-py never tries a command again here: the flusher must know whether an answer was lost, to mark the batch.
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

#: Gives (user name, password), or (password,), for each new connection.
Credentials: TypeAlias = Callable[[], tuple[str] | tuple[str, str]]


def connect(url: str, *, timeout: float, credentials: Credentials | None = None) -> Redis:
    """A client; nothing is connected before the first command.

    Args:
        url: Any form that redis_url lists.
        timeout: Seconds for connecting, and for each answer.
        credentials: Asked for the name and password at each new connection, so that they can be rotated.

    Raises:
        ValueError: It is not one of these.
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
    """Log in and choose the database, as redis-py does, and then set the connection's name, if this user may."""
    connection.on_connect()
    connection.send_command("CLIENT", "SETNAME", _NAME)
    with suppress(ResponseError):  # an ACL without CLIENT; the name is a comfort, no condition
        connection.read_response()


class _Provider(CredentialProvider):
    """A function as redis-py's provider."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return self._credentials()
