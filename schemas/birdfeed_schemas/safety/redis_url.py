"""Parse a Redis URL without connecting and without importing redis. No error quotes it, as it may hold a password.

redis://[user:password@]host:port/db                                  plain
rediss://...                                                          TLS, with redis-py's ssl_ options in its query
unix:///path/to/socket?db=0                                           a socket on this host
redis+sentinel://[user:password@]host:port,host:port/service/db       the master that Sentinel names
    ?sentinel_username=...&sentinel_password=...&ssl=true             ssl=true: TLS, also to the Sentinels
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from birdfeed_schemas.safety.urls import ENCODE, UrlError, parts_of

SENTINEL: Final = "redis+sentinel"
SCHEMES: Final = ("redis", "rediss", "unix", SENTINEL)
_DEFAULT_PORTS: Final = {SENTINEL: 26379}
_YES: Final = ("1", "true", "t", "yes", "y", "on")
_NO: Final = ("0", "false", "f", "no", "n", "off")
#: Options that redis-py reads from a URL, but which are birdfeed's own affair: a URL that other programs use too may
#: have them, and they would undo the time limits that the promises rest on.
_IGNORED: Final = frozenset(
    {
        *("client_name", "decode_responses", "encoding", "encoding_errors", "legacy_responses", "max_connections"),
        *("health_check_interval", "protocol", "retry_on_error", "retry_on_timeout", "socket_connect_timeout"),
        *("socket_keepalive", "socket_read_size", "socket_timeout", "timeout"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPlace:
    """What a Redis URL says.

    Attributes:
        scheme: One of SCHEMES.
        hosts: Names or addresses with their ports; none for a socket, several only for Sentinel.
        path: The socket's path, or the name of Sentinel's service; otherwise "".
        db: The database's number.
        login: Redis's `username` and `password`, if given.
        sentinel_login: The Sentinels' own.
        tls: redis-py's ssl_ options; None without TLS.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    db: int
    login: Mapping[str, str] = field(repr=False)
    sentinel_login: Mapping[str, str] = field(repr=False)
    tls: Mapping[str, Any] | None = field(repr=False)


def checked_redis_url(url: str) -> str:
    """The URL without surrounding spaces and with its scheme in lower case.

    Raises:
        ValueError: It is not a valid Redis URL; the message says what is wrong, but quotes nothing of it.
    """
    scheme, separator, rest = url.strip().partition("://")
    url = f"{scheme.lower()}{separator}{rest}"
    redis_place(url)
    return url


def redis_place(url: str) -> RedisPlace:
    """Parse a URL.

    Raises:
        ValueError: It is not a valid Redis URL; the message says what is wrong, but quotes nothing of it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise UrlError("a Redis URL starts with redis://, rediss://, unix:// or redis+sentinel://")
    try:
        if "#" in url:
            raise UrlError(ENCODE)
        parts = parts_of(url)
    except UrlError as error:
        raise UrlError(f"the Redis URL can't be read: {error}") from None
    path, database = _path(scheme, parts.path)
    # The first of several, as redis-py reads them.
    query = dict(reversed(parse_qsl(parts.query, keep_blank_values=True)))
    if not query.keys() <= _OPTIONS | (_SENTINEL_OPTIONS if scheme == SENTINEL else set()):
        raise UrlError("the Redis URL's query, after its ?, has an option that is unknown")
    query = {name: value for name, value in query.items() if value}
    tls = _tls(scheme, query)
    user, _, password = map(unquote, parts.login.partition(":"))
    login = {"username": user or query.get("username", ""), "password": password or query.get("password", "")}
    if scheme == SENTINEL and not login["password"]:
        login = {}  # a name alone was never sent
    return RedisPlace(
        scheme=scheme,
        hosts=_hosts(scheme, parts.hosts),
        path=path,
        db=_database(query.get("db") or database),
        login=_given(login),
        sentinel_login=_given({name: query.get(f"sentinel_{name}", "") for name in ("username", "password")}),
        tls=tls,
    )


def _given(login: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in login.items() if text}


def _path(scheme: str, path: str) -> tuple[str, str]:
    """The socket's path or the service, and the database."""
    if scheme == "unix":
        if not path.strip("/"):
            raise UrlError("a unix:// URL names a socket's path: unix:///path/to/socket")
        return unquote(path), ""
    if scheme == SENTINEL:
        service, _, database = path.strip("/").partition("/")
        if not service:
            raise UrlError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
        return unquote(service), database
    return "", path.strip("/")


def _hosts(scheme: str, text: str) -> tuple[tuple[str, int], ...]:
    if scheme == "unix":
        return ()
    found = []
    for one in filter(None, text.split(",")):
        try:
            parts = urlsplit(f"//{one}")
            port = parts.port
        except ValueError:
            raise UrlError("a host in the Redis URL is not valid, or its port is not a number up to 65535") from None
        found.append((parts.hostname or "localhost", port or _DEFAULT_PORTS.get(scheme, 6379)))
    if scheme != SENTINEL:
        if len(found) > 1:
            raise UrlError("a Redis URL has one host; several are Sentinels: redis+sentinel://host,host/service/db")
        return tuple(found or [("localhost", 6379)])
    if not found:
        raise UrlError("a Sentinel URL is redis+sentinel://host:port,host:port/service/db")
    return tuple(found)


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UrlError("the database in the Redis URL, after its last / or as db=, is not a number")
    return int(text or 0)


def _tls(scheme: str, query: Mapping[str, str]) -> dict[str, Any] | None:
    """The ssl_ options, each read; None without TLS."""
    on = scheme == "rediss" or (scheme == SENTINEL and _flag("ssl", query.get("ssl", "false")))
    given = {name: read(name, query[name]) for name, read in _TLS.items() if name in query}
    if given and not on:
        names = ", ".join(given)
        raise UrlError(f"the Redis URL has {names}, but no TLS: that is rediss://, or ssl=true for Sentinel")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise UrlError("the Redis URL has an ssl_keyfile, but not the ssl_certfile that it belongs to")
    return given if on else None


def _flag(name: str, text: str) -> Any:
    return _one_of(name, text, {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)})


def _one_of(name: str, text: str, choices: Mapping[str, Any]) -> Any:
    try:
        return choices[text.lower()]
    except KeyError:
        raise UrlError(f"{name} in the Redis URL must be one of {', '.join(choices)}") from None


def _requirement(name: str, text: str) -> Any:
    # Celery writes CERT_NONE where redis-py writes none.
    return _one_of(name, text.lower().removeprefix("cert_"), {one: one for one in ("none", "optional", "required")})


def _version(name: str, text: str) -> Any:
    """A name of ssl.TLSVersion, as redis_url.py looks it up."""
    return _one_of(name, text.replace(".", "_"), {"tlsv1_2": "TLSv1_2", "tlsv1_3": "TLSv1_3"})


def _text(name: str, text: str) -> str:
    if "\0" in text:
        raise UrlError(f"{name} in the Redis URL has a control character")
    return text


#: What each option of TLS may be.
_TLS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _flag,
    "ssl_min_version": _version,
    **dict.fromkeys(
        ("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_certfile", "ssl_ciphers", "ssl_keyfile", "ssl_password"),
        _text,
    ),
}
_OPTIONS: Final = {"db", "username", "password", *_IGNORED, *_TLS}
_SENTINEL_OPTIONS: Final = {"ssl", "sentinel_username", "sentinel_password"}
