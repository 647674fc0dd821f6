"""Tinybird over HTTP: append rows, ask what is there. The only file that imports httpx."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson
import zstandard

from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.tinybird.decide import Answer

#: zstd's; by measurement (docs/explanation/performance.md).
COMPRESSION_LEVEL: Final = 1
#: Longest wait in seconds that a header is believed.
MAX_WAIT: Final = 86_400.0
#: Characters kept of a server's words, after redaction.
MAX_DETAIL: Final = 300
_TOKEN = re.compile(r"p\.[A-Za-z0-9_.-]{20,}|eyJ[A-Za-z0-9_.-]{20,}")


class Tinybird:
    """One client per process: HTTP/1.1 with keep-alive, TLS verified, proxies from the environment.

    Args:
        host: The API host, such as https://api.us-east.tinybird.co.
        append_token: May append to the data sources.
        read_token: May read them, or None.
        connect_timeout, read_timeout: Seconds.
        transport: For tests.
    """

    def __init__(
        self,
        host: str,
        append_token: str,
        read_token: str | None,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 45.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._append_token = append_token
        self._read_token = read_token
        self._secrets = [token for token in (append_token, read_token) if token]
        self._columns: dict[str, dict[str, str]] = {}
        self._local = threading.local()
        self._client = httpx.Client(
            base_url=host,
            http2=False,
            timeout=httpx.Timeout(connect=connect_timeout, read=read_timeout, write=read_timeout, pool=5.0),
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=16, keepalive_expiry=60.0),
            headers={"User-Agent": "birdfeed"},
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def can_read(self) -> bool:
        """Whether there is a read token."""
        return self._read_token is not None

    def encode(self, rows: Iterable[bytes]) -> bytes:
        """The request body for some rows: NDJSON, zstd. Frozen by the caller, so that a resend is identical."""
        try:
            compressor: zstandard.ZstdCompressor = self._local.compressor
        except AttributeError:  # one for each thread: they can't be shared
            compressor = self._local.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        return compressor.compress(b"\n".join(rows))

    def append(self, datasource: str, body: bytes) -> Answer:
        """POST an encoded body with wait=true. Never raises for anything that can happen to a request."""
        try:
            response = self._client.post(
                "/v0/events",
                params={"name": datasource, "wait": "true"},
                content=body,
                headers={
                    "Authorization": f"Bearer {self._append_token}",
                    "Content-Encoding": "zstd",
                    "Content-Type": "application/x-ndjson",
                },
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            return Answer(status=0, sent=False, detail=self._describe_error(error))
        except (httpx.HTTPError, httpx.StreamError) as error:
            return Answer(status=0, sent=True, detail=self._describe_error(error))
        _break_cycle(response)
        return self._answer(response)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a SELECT, through the SQL API by POST.

        Raises:
            QuotaError: The plan's read quota is used up; ask again later.
            QueryError: Anything else; the status says what.
        """
        rows: list[dict[str, Any]] = self._read("POST", "/v0/sql", "data", f"{sql} FORMAT JSON")
        return rows

    def columns(self, datasource: str) -> Mapping[str, str]:
        """Names and ClickHouse types of a data source's columns, asked for once and remembered. Raises as query."""
        known = self._columns.get(datasource)
        if known is None:  # held in a variable: another thread may forget it meanwhile
            meta = self._read("POST", "/v0/sql", "meta", f"SELECT * FROM {datasource} LIMIT 0 FORMAT JSON")
            known = self._columns[datasource] = {column["name"]: column["type"] for column in meta}
        return known

    def forget_columns(self, datasource: str) -> None:
        """Ask again for them next time."""
        self._columns.pop(datasource, None)

    def describe(self, datasource: str) -> Mapping[str, Mapping[str, Any]]:
        """Each column's jsonpath, default_value and nullable, where the token may see them. Raises as query."""
        columns = self._read("GET", f"/v0/datasources/{datasource}", "columns")
        return {column["name"]: column for column in columns}

    def _read(self, method: str, path: str, key: str, body: str | None = None) -> Any:
        """What stands under `key` in the answer to a request that reads; raises as query."""
        if self._read_token is None:
            raise QueryError(0, "no read token is set (TINYBIRD_READ_TOKEN)")
        try:
            response = self._client.request(
                method,
                path,
                content=None if body is None else body.encode(),
                headers={"Authorization": f"Bearer {self._read_token}", "Content-Type": "text/plain"},
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise QueryError(0, self._describe_error(error)) from None
        _break_cycle(response)
        if response.status_code == 429:
            raise QuotaError(_seconds(response.headers, "Retry-After") or 60.0)
        if response.status_code != 200:
            raise QueryError(response.status_code, self._detail(response))
        try:
            return orjson.loads(response.content)[key]
        except (ValueError, KeyError, TypeError):
            raise QueryError(response.status_code, "the answer is not the API's JSON") from None

    def _answer(self, response: httpx.Response) -> Answer:
        successful = quarantined = None
        if response.status_code in (200, 202):
            try:
                body = orjson.loads(response.content)
                successful, quarantined = _count(body, "successful_rows"), _count(body, "quarantined_rows")
            except ValueError:
                pass  # decide() treats a 200 without counts as unknown
        return Answer(
            status=response.status_code,
            successful=successful,
            quarantined=quarantined,
            retry_after=_seconds(response.headers, "Retry-After"),
            reset=_seconds(response.headers, "X-RateLimit-Reset"),
            detail="" if response.status_code == 200 else self._detail(response),
        )

    def _detail(self, response: httpx.Response) -> str:
        try:
            body = orjson.loads(response.content)
            text = str(body["error"]) if isinstance(body, dict) and "error" in body else response.text
        except ValueError:
            text = response.text
        return self.redact(text)

    def _describe_error(self, error: Exception) -> str:
        return self.redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def redact(self, text: str) -> str:
        """Short, on one line, and without our tokens or anything that looks like one: 403 bodies echo them."""
        for secret in self._secrets:
            text = text.replace(secret, "[token]")
        return " ".join(_TOKEN.sub("[token]", text).split())[:MAX_DETAIL]


def json_getter(url: str, timeout: float) -> Callable[[Mapping[str, str]], tuple[int, object]]:
    """A function that GETs `url` with query parameters: the status, and the body's JSON (None where it has none).

    Here because this is the only file that imports httpx; for the auth service that knows tiers. The function raises
    httpx.HTTPError where there is no answer within `timeout` seconds.
    """
    client = httpx.Client(timeout=timeout, limits=httpx.Limits(max_connections=16))

    def get(parameters: Mapping[str, str]) -> tuple[int, object]:
        response = client.get(url, params=dict(parameters))
        try:
            return response.status_code, orjson.loads(response.content)
        except orjson.JSONDecodeError:
            return response.status_code, None

    return get


def _break_cycle(response: httpx.Response) -> None:
    """Take apart what holds a read response, and with it the request's body, until the cycle collector comes by.

    A response and its stream refer to each other; a worker's collector comes rarely (child.py).
    """
    del response.stream


def _count(body: Any, name: str) -> int | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if type(value) is int and value >= 0 else None


def _seconds(headers: Mapping[str, str], name: str) -> float | None:
    """Seconds from a header that has a number or a date, at most a day; None where it is neither."""
    value = headers.get(name, "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    # An epoch is no wait; nobody means years.
    return min(max(seconds, 0.0), MAX_WAIT) if -MAX_WAIT < seconds < 1e9 else None
