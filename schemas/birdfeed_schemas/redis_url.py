"""Make a Redis client from any URL that safety/redis_url.py lists; producer and worker set time limits and retries.

This is the only module of the schemas that imports redis; only code that connects imports it.
"""

import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from redis import Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from birdfeed_schemas.safety.redis_url import SENTINEL, RedisPlace, redis_place
from birdfeed_schemas.safety.untrusted import redis_error, without_arguments

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


class _Sentinel(Redis):
    """One Sentinel. redis-py's errors have its repr, which in some versions has its passwords but never the reason."""

    _reason = ""

    def sentinel_masters(self) -> Any:
        """The masters that it knows, by name."""
        try:
            return super().sentinel_masters()
        except RedisError as error:
            self._reason = redis_error(error)
            raise

    def __repr__(self) -> str:
        options = self.connection_pool.connection_kwargs
        return f"{options['host']}:{options['port']} {self._reason}"


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


def client_of(url: str, name: str, options: Mapping[str, Any]) -> Redis:
    """A client; it doesn't connect before the first command.

    Args:
        url: Any of the forms that safety/redis_url.py lists.
        name: Shown by CLIENT LIST, if this user may set it.
        options: What redis.Redis takes: time limits, retry, credential_provider, ...

    Raises:
        ValueError: The URL has none of the forms above; the message quotes nothing of it.
    """
    place = redis_place(url)
    chosen = {
        **options,
        **_tls(place),
        "db": place.db,
        "protocol": 2,
        "redis_connect_func": partial(_greet, name=name),
    }
    if "credential_provider" not in chosen:  # redis-py accepts a provider or the URL's credentials, but not both
        chosen |= place.login
    if place.scheme == SENTINEL:
        return _from_sentinel(place, chosen)
    if place.hosts:
        ((host, port),) = place.hosts
        chosen |= {"host": host, "port": port, "socket_keepalive": True}
    # Redis() has no time limit for connecting to a socket.
    return Redis.from_url(f"{place.scheme}://{quote(place.path)}", **chosen)


def _greet(connection: Connection, *, name: str) -> None:
    _log_in(connection)
    with suppress(ResponseError):  # an ACL without CLIENT; the name is optional
        connection.send_command("CLIENT", "SETNAME", name, check_health=False)
        connection.read_response()


def _log_in(connection: Connection) -> None:
    """Set up a new connection as redis-py does: log in, choose the database.

    Raises:
        ResponseError: Redis refuses. A server that doesn't know a command quotes what it was sent, which would bring
            the password into logs: the error ends before that.
    """
    # Without redis-py's health check at a new connection's first command: if the log-in is refused, it would reconnect
    # for its PING, and recurse until the stack overflows.
    interval, connection.health_check_interval = connection.health_check_interval, 0
    try:
        connection.on_connect()
        return
    except ResponseError as error:
        refused = type(error)(without_arguments(error))
    finally:
        connection.health_check_interval = interval
    raise refused


def _tls(place: RedisPlace) -> dict[str, Any]:
    if place.tls is None:
        return {}
    # The default differs between versions of redis-py, and so does what is done if the certificate isn't checked.
    checks = place.tls.get("ssl_cert_reqs") != "none"
    given = {**place.tls, "ssl_check_hostname": checks and place.tls.get("ssl_check_hostname", True)}
    if (version := given.get("ssl_min_version")) is not None:
        given["ssl_min_version"] = ssl.TLSVersion[version]
    return given


def _from_sentinel(place: RedisPlace, options: dict[str, Any]) -> Redis:
    sentinel_options = {name: options[name] for name in options if name.startswith(("socket_", "ssl_"))}
    # No retries here: callers retry themselves, and these would multiply with each Sentinel that is down.
    sentinel_options["socket_timeout"] = min(options["socket_timeout"], options["socket_connect_timeout"])
    sentinel_options |= {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": _log_in,
        **place.sentinel_login,
    }
    if place.tls is not None:
        options["ssl"] = sentinel_options["ssl"] = True
    manager = Sentinel([])
    manager.sentinels = [_Sentinel(host, port, **sentinel_options) for host, port in place.hosts]
    master: Redis = manager.master_for(place.path, connection_pool_class=MasterPool, **options)
    return master
