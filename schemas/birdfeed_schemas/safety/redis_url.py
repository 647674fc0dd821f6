"""Check a Redis URL without connecting, without importing redis, and without quoting it: it may hold a password."""

from typing import Final
from urllib.parse import parse_qsl, urlsplit

#: The schemes that redis_url.py reads.
SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel")
#: Options in a URL's query that redis-py knows.
_OPTIONS: Final = frozenset(
    {
        *("db", "username", "password", "client_name", "protocol", "timeout", "max_connections"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "retry_on_timeout"),
        *("ssl_check_hostname", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile"),
        *("ssl_keyfile", "ssl_password", "ssl_min_version", "ssl_ciphers"),
    }
)
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password", "ssl"})


def checked_redis_url(url: str) -> str:
    """The URL without surrounding spaces and with its scheme in lower case.

    Raises:
        ValueError: It is not a valid Redis URL; the message says what is wrong, but quotes nothing of it.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ValueError("a Redis URL starts with redis://, rediss://, unix:// or redis+sentinel://")
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError("the Redis URL can't be read; write special characters in its password as %XX") from None
    if "#" in rest or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise ValueError("in a Redis URL's password write / as %2F, # as %23, ? as %3F and @ as %40")
    known = _OPTIONS | _SENTINEL_OPTIONS if scheme == "redis+sentinel" else _OPTIONS
    if any(name not in known for name, _ in query):
        raise ValueError("the Redis URL's query, after its ?, has an option that redis-py doesn't know")
    _check_place(scheme, parts.netloc, parts.path)
    _check_database(next((value for name, value in query if name == "db"), ""))
    return url


def _check_place(scheme: str, netloc: str, path: str) -> None:
    hosts = netloc.rpartition("@")[2]
    if scheme == "unix":
        if not path.strip("/"):
            raise ValueError("a unix:// URL names a socket's path: unix:///path/to/socket")
        return
    if scheme == "redis+sentinel":
        service, _, database = path.strip("/").partition("/")
        if not service or not hosts:
            raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
    else:
        database = path.strip("/")
    for host in hosts.split(","):
        try:
            _ = urlsplit(f"//{host}").port
        except ValueError:
            raise ValueError("the port in the Redis URL is not a number from 0 to 65535") from None
    _check_database(database)


def _check_database(database: str) -> None:
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("the database in the Redis URL, after its last /, is not a number")
