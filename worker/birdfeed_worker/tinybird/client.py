"""Tinybird's client: append rows, and query. http.py makes the requests, responses.py reads the answers."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
import zstandard

from birdfeed_worker.errors import QueryError, QuotaError, RequestError
from birdfeed_worker.tinybird.decide import REFUSED, Answer
from birdfeed_worker.tinybird.http import HttpClient, Reply
from birdfeed_worker.tinybird.responses import (
    Description,
    Job,
    JobState,
    Selected,
    Types,
    answer_of,
    detail,
    parsed,
    redact,
    seconds,
)
from birdfeed_worker.tinybird.tokens import Token

T = TypeVar("T")

#: zstd's level, chosen by measurement (docs/explanation/performance.md).
COMPRESSION_LEVEL: Final = 1
#: Rows joined and compressed at a time.
PACKED_AT_ONCE: Final = 64
#: Bytes at most of the answer to an append, or of an error page; and of a query's answer: a page of 5,000 whole rows
#: (reprice) is about 10 MB.
MAX_ANSWER_BYTES: Final = 1_000_000
MAX_RESULT_BYTES: Final = 64_000_000
#: Seconds to wait for the read quota if the answer doesn't say how many.
QUOTA_WAIT: Final = 60.0


class Tinybird:
    """One client per process. If a token is refused, its file is read again; with a new token the request is repeated.

    Args:
        host: The API host, such as https://api.us-east.tinybird.co.
        append_token: A token that may append to the data sources.
        read_token: A token that may read them, or None.
        connect_timeout, read_timeout: Seconds; their sum limits a whole request.
        transport: For tests.

    Raises:
        ConfigurationError: The HTTP client can't be created; see HttpClient.
    """

    def __init__(
        self,
        host: str,
        append_token: Token | str,
        read_token: Token | str | None,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 45.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._append_token = _token("TINYBIRD_TOKEN", append_token)
        self._read_token = _token("TINYBIRD_READ_TOKEN", read_token)
        self._columns: dict[str, dict[str, str]] = {}
        self._append_urls: dict[str, httpx.URL] = {}
        self._local = threading.local()
        self._http = HttpClient(
            host,
            connect_timeout=connect_timeout,
            total_timeout=connect_timeout + read_timeout,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def can_read(self) -> bool:
        """Whether there is a read token."""
        return bool(self._read_token.value)

    def encode(self, rows: Sequence[bytes]) -> bytes:
        """The request body for these rows: NDJSON, zstd. The caller keeps it, so that a resend is identical."""
        try:
            compressor: zstandard.ZstdCompressor = self._local.compressor
        except AttributeError:  # one per thread, because compressors can't be shared
            compressor = self._local.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        packing = compressor.compressobj(size=sum(map(len, rows)) + max(0, len(rows) - 1))
        pieces, before = [], b""
        for start in range(0, len(rows), PACKED_AT_ONCE):
            # Joining all rows first would take the memory of all of them once more.
            pieces.append(packing.compress(before + b"\n".join(rows[start : start + PACKED_AT_ONCE])))
            before = b"\n"
        return b"".join((*pieces, packing.flush()))

    def append(self, datasource: str, body: bytes) -> Answer:
        """POST an encoded body with wait=true. Never raises, whatever happens to the request."""
        try:
            reply = self._request(
                self._append_token,
                "POST",
                self._append_url(datasource),
                content=body,
                headers={"Content-Encoding": "zstd", "Content-Type": "application/x-ndjson"},
                most_bytes=MAX_ANSWER_BYTES,
            )
        except RequestError as error:
            return Answer(status=0, sent=error.sent, detail=self.redact(error.detail))
        return answer_of(reply, self._secrets())

    def _append_url(self, datasource: str) -> httpx.URL:
        url = self._append_urls.get(datasource)
        if url is None:
            url = self._http.url("/v0/events", {"name": datasource, "wait": "true"})
            self._append_urls[datasource] = url
        return url

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT, through the SQL API by POST.

        Raises:
            QuotaError: The plan's read quota is used up; ask again later.
            QueryError: Any other failure; see its status.
        """
        return self._read(Selected, "POST", "/v0/sql", f"{sql} FORMAT JSON").data

    def columns(self, datasource: str, *, again: bool = False) -> Mapping[str, str]:
        """Column → ClickHouse type, for a data source; cached until `again`. Raises as `query` does."""
        known = None if again else self._columns.get(datasource)
        if known is None:  # kept in a variable, because another thread may remove it from the cache
            found = self._read(Types, "POST", "/v0/sql", f"SELECT * FROM {datasource} LIMIT 0 FORMAT JSON")
            known = self._columns[datasource] = {column.name: column.type for column in found.meta}
        return known

    def known_columns(self, datasource: str) -> Mapping[str, str] | None:
        """The cached columns, or None; no request is made."""
        return self._columns.get(datasource)

    def forget_columns(self, datasource: str) -> None:
        """Remove them from the cache."""
        self._columns.pop(datasource, None)

    def describe(self, datasource: str) -> Mapping[str, Mapping[str, Any]]:
        """Each column's jsonpath, default_value and nullable, if the token may see them. Raises as `query` does."""
        found = self._read(Description, "GET", f"/v0/datasources/{datasource}")
        return {column.name: column.model_dump() for column in found.columns}

    def delete_rows(self, datasource: str, condition: str) -> str:
        """Start to delete the rows that match a condition; returns the id of Tinybird's job.

        `append_token` must have the scope DATASOURCES:CREATE or ADMIN. Raises QueryError.
        """
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"delete_condition": condition}).encode()
        return self._ask(Job, "POST", f"/v0/datasources/{datasource}/delete", form, body).id

    def job_state(self, job_id: str) -> JobState:
        """The state of a job. Raises QueryError."""
        return self._ask(JobState, "GET", f"/v0/jobs/{quote(job_id, safe='')}", {}, None)

    def _ask(self, model: type[T], method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> T:
        try:
            reply = self._request(
                self._append_token, method, path, content=body, headers=headers, most_bytes=MAX_ANSWER_BYTES
            )
        except RequestError as error:
            raise QueryError(0, self.redact(error.detail)) from None
        if reply.status not in (200, 201, 202):
            raise QueryError(reply.status, detail(reply, self._secrets()))
        return parsed(model, reply)

    def redact(self, text: str) -> str:
        """A text cut short, on one line, and without our tokens or anything that looks like one."""
        return redact(text, self._secrets())

    def _read(self, model: type[T], method: str, path: str, body: str | None = None) -> T:
        """The answer to a request that reads, as a model; raises as `query` does."""
        if not self.can_read:
            raise QueryError(0, "no read token is set (TINYBIRD_READ_TOKEN)")
        try:
            reply = self._request(
                self._read_token,
                method,
                path,
                content=None if body is None else body.encode(),
                headers={"Content-Type": "text/plain"},
                most_bytes=MAX_RESULT_BYTES,
            )
        except RequestError as error:
            raise QueryError(0, self.redact(error.detail)) from None
        if reply.status == 429:
            raise QuotaError(seconds(reply.headers, "retry-after") or QUOTA_WAIT)
        if reply.status != 200:
            raise QueryError(reply.status, detail(reply, self._secrets()))
        return parsed(model, reply)

    def _request(
        self, token: Token, method: str, path: str | httpx.URL, *, headers: Mapping[str, str], **named: Any
    ) -> Reply:
        used = token.value
        reply = self._http.request(method, path, headers={**headers, "Authorization": f"Bearer {used}"}, **named)
        if reply.status in REFUSED and token.replaced(used):
            # Nothing was done with the refused token, so the same request may be sent again with the new one.
            authorised = {**headers, "Authorization": f"Bearer {token.value}"}
            return self._http.request(method, path, headers=authorised, **named)
        return reply

    def _secrets(self) -> tuple[str, ...]:
        return self._append_token.seen + self._read_token.seen


def _token(variable: str, given: Token | str | None) -> Token:
    return given if isinstance(given, Token) else Token(variable, given or "")
