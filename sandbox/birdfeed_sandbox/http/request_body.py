"""Request bodies: read completely, and decompressed within a limit. Nothing here depends on Tinybird's routes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import orjson
import zstandard
from starlette.requests import Request

from birdfeed_sandbox.errors import ApiError

#: Bytes decompressed at a time: few, because each may expand to thousands, and the limit is checked in between.
_SLICE: Final = 4096


async def read_body(request: Request, *, keep: int) -> tuple[bytes, int]:
    """A request's body as it was sent, and its length.

    All of it is read from the connection, so that the client then reads the answer; at most `keep` bytes and a chunk
    stay in memory.

    Raises:
        ClientDisconnect: The client disconnected while sending it.
    """
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        if length <= keep:
            chunks.append(chunk)
        length += len(chunk)
    return b"".join(chunks), length


def decoded(body: bytes, encoding: str, *, limit: int) -> bytes:
    """A body without its Content-Encoding, if it has one; `limit` is the most bytes that it may have then.

    Raises:
        ApiError: 400 for an unknown encoding or a body that isn't in it; 413 for one beyond the limit.
    """
    match encoding.strip().lower():
        case "" | "identity":
            content = body
        case "gzip":
            content = _decompressed(body, limit, "gzip", lambda: zlib.decompressobj(wbits=31))
        case "zstd":
            content = _decompressed(body, limit, "zstd", lambda: zstandard.ZstdDecompressor().decompressobj())
        case other:
            raise ApiError(400, f"Content-Encoding {other} is not supported: use gzip or zstd")
    check_length(len(content), limit)
    return content


def check_length(length: int, limit: int) -> None:
    """Check that a body isn't too long; raises ApiError (413)."""
    if length > limit:
        raise ApiError(413, f"Request Entity Too Large: the limit is {limit} bytes")


def json_object(body: bytes) -> dict[str, Any]:
    """A body that is a JSON object; raises ApiError (400)."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ApiError(400, "the body is not a JSON object")
    return content


def _decompressed(body: bytes, limit: int, name: str, new_stream: Callable[[], Any]) -> bytes:
    """All streams of a body, concatenated; cut off a little above the limit."""
    parts = []
    length = 0
    rest = body
    try:
        while rest and length <= limit:
            stream = new_stream()
            position = 0
            while position < len(rest) and length <= limit and not stream.eof:
                parts.append(stream.decompress(rest[position : position + _SLICE]))
                length += len(parts[-1])
                position += _SLICE
            if length <= limit and not stream.eof:
                raise ApiError(400, f"the body is not valid {name}: it ends too early")
            rest = stream.unused_data + rest[position:]
    except (zlib.error, zstandard.ZstdError) as error:
        raise ApiError(400, f"the body is not valid {name}: {error}") from error
    return b"".join(parts)
