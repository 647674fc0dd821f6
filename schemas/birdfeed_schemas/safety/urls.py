"""URLs that may hold secrets: one way to parse them, and one way to show them."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}")
#: Characters that all parsers read alike. (The standard library drops tabs, and quotes non-ASCII text in its errors.)
_LOGIN = re.compile(r"[!-?A-Z\\^-~]*")
#: One or several hosts (several in Sentinel's URLs), each with or without a port.
_HOSTS = re.compile(r"(?:(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?,?)*", re.ASCII)
ENCODE: Final = "in a user name or password, / ? # @ [ ] and what is not ASCII are percent-encoded: %2F for /"
_PATH = re.compile(r"[\w./~+{}%-]*", re.ASCII)


class UrlError(ValueError):
    """A URL that can't be parsed unambiguously; the message says why, but quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A parsed URL.

    Attributes:
        scheme: Such as `redis`.
        login: What comes before the `@`; secret.
        hosts: Hosts and ports, such as `a:26379,b:26379`; empty for a socket.
        path: The path, with its slash.
        query: The query, without its question mark; may be secret.
    """

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


def parts_of(url: str) -> Parts:
    """Parse a URL.

    Raises:
        UrlError: It is not a URL, or its password isn't percent-encoded, so that the end of it is unclear.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise UrlError("a URL begins with its scheme and ://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    login, _, hosts = authority.rpartition("@")
    if "@" in behind or not _LOGIN.fullmatch(login):
        raise UrlError(ENCODE)
    path, _, query = behind.partition("#")[0].partition("?")
    if not _HOSTS.fullmatch(hosts):
        raise UrlError(f"its host or port is not valid; {ENCODE}")
    if not _PATH.fullmatch(path):
        raise UrlError("its path has characters that are to be percent-encoded")
    return Parts(scheme=scheme, login=login, hosts=hosts, path=path, query=query)


def shown(url: str) -> str:
    """A URL as it may be shown: without user name, password and query; nothing of it if it can't be parsed."""
    try:
        parts = parts_of(url)
    except UrlError:
        return "***"
    login, query = "***@" if parts.login else "", "?***" if parts.query else ""
    return f"{parts.scheme}://{login}{parts.hosts}{parts.path}{query}"


def goes_in_clear(url: str) -> bool:
    """Whether it is http:// to another machine, so that anyone on the network path can read what is sent."""
    return urlsplit(url).scheme.lower() == "http" and urlsplit(url).hostname not in _LOOPBACK


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header is for a server on this machine: localhost, one of `names`, or an IP address.

    A web page whose own name resolves to 127.0.0.1 (DNS rebinding) sends that name here; a request to an IP address
    used no DNS.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
