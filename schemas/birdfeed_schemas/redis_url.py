"""Make a Redis client from any URL that birdfeed accepts; producer and worker set their own time limits and retries.

    redis://[user:password@]host:port/db                                  plain
    rediss://...                                                          TLS
    unix:///path/to/socket?db=0                                           a socket on this host
    redis+sentinel://[user:password@]host:port,host:port/service/db       the master that Sentinel names
        ?sentinel_username=...&sentinel_password=...&ssl=true

This is the only module of the schemas that imports redis; only code that connects imports it.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from birdfeed_schemas.safety.urls import parts_of

_SENTINEL_SCHEME: Final = "redis+sentinel"
_SENTINEL_PORT: Final = 26379
#: Sentinel is asked again after this many seconds, but at least this many times as long as the last query took.
_ASK_SECONDS: Final = 1.0
_ASK_SHARE: Final = 10.0


class MasterConnection(SentinelManagedConnection):
    """A connection that asks Sentinel for the master each time it connects.

    redis-py's own class retries a failed command always at the server that failed.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send; connect first if there is no connection."""
        if self._sock is None:
            self._connect_retry()
        super().send_packed_command(command, check_health)


class MasterSSLConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


class MasterPool(SentinelConnectionPool):
    """Connections to the master that notice when it is no longer the master.

    After a failover that Sentinel ordered, or if the master had hung, Sentinel takes ten seconds to demote the old
    master, and what is written to it in that time is lost. So Sentinel is asked again regularly, between two commands.
    """

    def __init__(self, service_name: str, sentinel_manager: Sentinel, **options: Any) -> None:
        options["connection_class"] = MasterSSLConnection if options.get("ssl") else MasterConnection
        super().__init__(service_name, sentinel_manager, **options)
        self._ask_at = time.monotonic() + _ASK_SECONDS

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Connection:
        """A connection to the master, according to Sentinel's last answer."""
        before = time.monotonic()
        if before >= self._ask_at:
            # This closes idle connections if the master has moved. If no Sentinel answers, an open connection may still
            # work.
            with suppress(RedisConnectionError, RedisTimeoutError):
                self.get_master_address()
            now = time.monotonic()
            self._ask_at = now + max(_ASK_SECONDS, _ASK_SHARE * (now - before))
        return super().get_connection()


def client_of(url: str, options: Mapping[str, Any]) -> Redis:
    """A client; it doesn't connect before the first command.

    Args:
        url: Any of the forms above.
        options: What redis.Redis takes: time limits, retry, client_name, credential_provider, ...

    Raises:
        ValueError: The URL has none of the forms above; the message quotes nothing of it.
    """
    chosen = dict(options)
    parts_of(url)  # redis-py could read part of a password as host or port, and quote it in its errors
    if urlsplit(url).scheme == _SENTINEL_SCHEME:
        return _from_sentinel(url, chosen)
    if not url.startswith("unix:"):
        chosen["socket_keepalive"] = True
    client = Redis.from_url(url, **chosen)
    if "credential_provider" in chosen:  # redis-py accepts a provider or the URL's credentials, but not both
        for name in ("username", "password"):
            client.connection_pool.connection_kwargs.pop(name, None)
    return client


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
    # No retries here: callers retry themselves, and these would multiply with each Sentinel that is down.
    sentinel_options["socket_timeout"] = min(options["socket_timeout"], options["socket_connect_timeout"])
    sentinel_options |= {
        "retry": Retry(NoBackoff(), 0),
        "username": query.get("sentinel_username"),
        "password": query.get("sentinel_password"),
    }
    if query.get("ssl", "").lower() in {"1", "true", "yes"}:
        options["ssl"] = sentinel_options["ssl"] = True
    sentinels = [_address(host) for host in hosts.split(",") if host]
    manager = Sentinel(sentinels, sentinel_kwargs=sentinel_options)
    master: Redis = manager.master_for(service, connection_pool_class=MasterPool, db=int(database or 0), **options)
    return master


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if parts.hostname is None:
        raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
    return parts.hostname, parts.port or _SENTINEL_PORT
