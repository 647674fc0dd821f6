"""Connect to Redis or Valkey from any URL birdfeed takes, with a time limit on everything.

    redis://[user:password@]host:port/db                                  plain
    rediss://...                                                          TLS
    unix:///path/to/socket?db=0                                           a socket of this host
    redis+sentinel://[user:password@]host:port,host:port/service/db       the master that Sentinel names
        ?sentinel_username=...&sentinel_password=...&ssl=true

redis-py never tries a command again here: the flusher must know whether an answer was lost, to mark the batch.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from redis import CredentialProvider, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

#: Gives (user name, password), or (password,), for each new connection.
Credentials: TypeAlias = Callable[[], tuple[str] | tuple[str, str]]

_SENTINEL_SCHEME: Final = "redis+sentinel"
_SENTINEL_PORT: Final = 26379


def connect(url: str, *, timeout: float, credentials: Credentials | None = None) -> Redis:
    """A client; nothing is connected before the first command.

    Args:
        url: Any of the forms above.
        timeout: Seconds for connecting, and for each answer.
        credentials: Asked for the name and password at each new connection, so that they can be rotated.

    Raises:
        ValueError: The URL is none of the forms above.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "birdfeed-producer",
    }
    if credentials is not None:
        options["credential_provider"] = _Provider(credentials)
    if urlsplit(url).scheme == _SENTINEL_SCHEME:
        return _from_sentinel(url, options)
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    client = Redis.from_url(url, **options)
    if credentials is not None:  # redis-py takes either these or the URL's, and refuses both
        for name in ("username", "password"):
            client.connection_pool.connection_kwargs.pop(name, None)
    return client


class _Provider(CredentialProvider):
    """A function as redis-py's provider."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return self._credentials()


def _from_sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if not service or not hosts:
        raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
    user, _, password = login.partition(":")
    if password and "credential_provider" not in options:
        options["password"] = unquote(password)
        options["username"] = unquote(user) or None
    sentinel_options = {name: options[name] for name in options if name.startswith("socket_")}
    sentinel_options |= {
        "retry": options["retry"],
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
    }
    if query.get("ssl", "").lower() in {"1", "true", "yes"}:
        options["ssl"] = sentinel_options["ssl"] = True
    sentinels = [_address(host) for host in hosts.split(",") if host]
    manager = Sentinel(sentinels, sentinel_kwargs=sentinel_options)
    master: Redis = manager.master_for(service, db=int(database or 0), **options)
    return master


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if parts.hostname is None:
        raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
    return parts.hostname, parts.port or _SENTINEL_PORT
