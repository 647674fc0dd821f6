"""A Redis client from any URL birdfeed takes; each side brings its own time limits and retries.

    redis://[user:password@]host:port/db                                  plain
    rediss://...                                                          TLS
    unix:///path/to/socket?db=0                                           a socket of this host
    redis+sentinel://[user:password@]host:port,host:port/service/db       the master that Sentinel names
        ?sentinel_username=...&sentinel_password=...&ssl=true

The only file of the schemas that needs redis; nobody imports it who doesn't connect.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis
from redis.sentinel import Sentinel

_SENTINEL_SCHEME: Final = "redis+sentinel"
_SENTINEL_PORT: Final = 26379


def client_of(url: str, options: Mapping[str, Any]) -> Redis:
    """A client; nothing is connected before the first command.

    Args:
        url: Any of the forms above.
        options: What redis.Redis takes: time limits, retry, client_name, credential_provider, ...

    Raises:
        ValueError: The URL is none of the forms above.
    """
    chosen = dict(options)
    if urlsplit(url).scheme == _SENTINEL_SCHEME:
        return _from_sentinel(url, chosen)
    if not url.startswith("unix:"):
        chosen["socket_keepalive"] = True
    client = Redis.from_url(url, **chosen)
    if "credential_provider" in chosen:  # redis-py takes either these or the URL's, and refuses both
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
