"""HTTP for workers: each request is bounded in time and bytes, whatever the server does. Only this file imports httpx.

httpx's own timeouts apply to each read: it would wait for ever for a server that sends one byte a minute. Here all
reads and writes of a request share one deadline. Bodies are unpacked here, too, up to a limit: httpx would unpack one
megabyte of gzip to gigabytes.
"""

import logging
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx
import orjson

from birdfeed_worker.errors import ConfigurationError, RequestError

log = logging.getLogger(__name__)

#: Bytes read or written between two checks of the deadline.
CHUNK_BYTES: Final = 65_536
#: Characters of a Location header that are shown.
MAX_LOCATION: Final = 200
#: For zlib: gzip's header, and the largest window.
_GZIP: Final = 31
#: Errors after which nothing was sent.
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: with its body unpacked, or with an empty body and `problem` (why it can't be read)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    problem: str = ""


class HttpClient:
    """HTTP/1.1 with keep-alive, verified TLS, proxies from the environment, no cookies, and no redirects.

    Args:
        base_url: The URL to which the paths of requests are appended.
        connect_timeout: Seconds for connecting.
        total_timeout: Seconds for a whole request, from connecting to the end of the answer.
        connections: Connections at once at most.
        transport: For tests.

    Raises:
        ConfigurationError: The environment's proxy or certificate settings can't be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout: float,
        total_timeout: float,
        connections: int = 20,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._total_timeout = total_timeout
        self._deadline = Deadline()
        try:
            self._client = httpx.Client(
                base_url=base_url,
                http2=False,
                timeout=httpx.Timeout(total_timeout, connect=min(connect_timeout, total_timeout), pool=5.0),
                limits=httpx.Limits(
                    max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60.0
                ),
                # Nothing else can be unpacked here.
                headers={"User-Agent": "birdfeed", "Accept-Encoding": "gzip"},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                transport=transport,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            # A SOCKS proxy without its package, a missing CA file, an invalid NO_PROXY, ...
            raise ConfigurationError(
                "no HTTP client can be made with the environment's HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, "
                f"SSL_CERT_FILE and SSL_CERT_DIR: {type(error).__name__}: {error}"
            ) from None
        for one in (self._client._transport, *self._client._mounts.values()):
            if isinstance(one, httpx.HTTPTransport):
                one._pool._network_backend = DeadlineBackend(one._pool._network_backend, self._deadline)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, path: str, params: Mapping[str, str]) -> httpx.URL:
        """The whole URL of a request that is made often: reading it takes httpx longer than all else before sending.

        Raises:
            RequestError: It is not a URL.
        """
        try:
            return self._client.build_request("GET", path, params=params).url
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise RequestError(describe(error), sent=False) from None

    def request(
        self,
        method: str,
        path: str | httpx.URL,
        *,
        most_bytes: int,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one request, to a path or a URL from `url`.

        The answer may have at most `most_bytes`, both packed and unpacked.

        Raises:
            RequestError: There was no complete answer, or it is not HTTP.
        """
        try:
            with self._deadline.after(self._total_timeout):
                request = self._client.build_request(method, path, content=content, headers=headers, params=params)
                response = self._client.send(request, stream=True)
                try:
                    return _reply(response, most_bytes)
                finally:
                    response.close()
                    # A response and its stream refer to each other, and keep the request's body alive until the
                    # garbage collector runs, which it rarely does in a worker (child.py).
                    del response.stream
        except _NOT_SENT as error:
            raise RequestError(describe(error), sent=False) from None
        except Exception as error:
            # Not only httpx's errors: whatever a server sends, and whichever library fails on it, the request has no
            # usable answer, and that must not end the worker.
            if not isinstance(error, httpx.HTTPError | httpx.StreamError):
                log.debug("a request failed in an unexpected way", exc_info=True)
            raise RequestError(describe(error), sent=True) from None


def _reply(response: httpx.Response, most_bytes: int) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    packed, total = [], 0
    assert isinstance(response.stream, httpx.SyncByteStream)
    for chunk in response.stream:
        total += len(chunk)
        if total > most_bytes:
            return Reply(response.status_code, headers, b"", f"the answer is longer than {most_bytes:,} bytes")
        packed.append(chunk)
    body, problem = unpack(b"".join(packed), headers.get("content-encoding", ""), most_bytes)
    return Reply(response.status_code, headers, body, problem)


def unpack(body: bytes, encoding: str, most_bytes: int) -> tuple[bytes, str]:
    """A body decoded from its Content-Encoding, and why that failed ("" if it didn't)."""
    if not body or encoding.strip().lower() in {"", "identity"}:
        return body, ""
    if encoding.strip().lower() not in {"gzip", "x-gzip"}:
        return b"", f"the answer has a Content-Encoding that was not asked for: {encoding[:40]!r}"
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        return b"", f"the answer is not valid gzip: {error}"
    if len(unpacked) > most_bytes:
        return b"", f"the answer unpacks to more than {most_bytes:,} bytes"
    return (unpacked, "") if unpacker.eof else (b"", "the answer's gzip data ends too early")


def describe(error: Exception) -> str:
    """An error in a few words; its own text may be empty."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class JsonGetter:
    """GETs `url` with query parameters; for the auth service that returns tiers.

    Args:
        timeout: Seconds for the answer.

    Raises:
        ConfigurationError: As HttpClient raises it.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._client = HttpClient("", connect_timeout=timeout, total_timeout=timeout, connections=16)

    def __call__(self, parameters: Mapping[str, str]) -> tuple[int, object]:
        """The status, and the body's JSON (None if it has none); raises RequestError if there is no answer."""
        reply = self._client.request("GET", self._url, params=parameters, most_bytes=CHUNK_BYTES)
        try:
            return reply.status, orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            return reply.status, None

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class Deadline(threading.local):
    """When the current thread's request must be finished; each thread has one request at a time."""

    at: float | None = None

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Give the requests in the block a common deadline, in so many seconds."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = None

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """A timeout cut to the seconds that are left; raises `error` if none are."""
        if self.at is None:
            return timeout
        left = self.at - time.monotonic()
        if left <= 0:
            raise error("the whole request took too long")
        return left if timeout is None else min(timeout, left)


class DeadlineBackend(httpcore.NetworkBackend):
    """A network backend with a deadline."""

    def __init__(self, backend: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._backend = backend
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore's."""
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        stream = self._backend.connect_tcp(host, port, left, local_address, socket_options)
        return DeadlineStream(stream, self._deadline)


class DeadlineStream(httpcore.NetworkStream):
    """A connection with a deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore's."""
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As httpcore's, but in pieces, so that a server that reads slowly has only until the deadline."""
        view = memoryview(buffer)
        for start in range(0, len(view), CHUNK_BYTES):
            left = self._deadline.left(timeout, httpcore.WriteTimeout)
            self._stream.write(bytes(view[start : start + CHUNK_BYTES]), left)

    def close(self) -> None:
        """As httpcore's."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """As httpcore's."""
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """As httpcore's."""
        return self._stream.get_extra_info(info)
