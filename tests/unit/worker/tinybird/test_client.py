"""Tinybird's client, without a server."""

import gc
import weakref
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import zstandard
from birdfeed_worker.tinybird.client import PACKED_AT_ONCE, Tinybird
from hypothesis import example, given
from hypothesis import strategies as st


def test_a_request_is_freed_without_the_garbage_collector() -> None:
    """It runs rarely in a worker, and a request's body is half a megabyte."""
    seen: list[weakref.ref[httpx.Request]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(weakref.ref(request))
        body = {"successful_rows": 1, "quarantined_rows": 0, "data": [], "meta": []}
        return httpx.Response(200, json=body)

    gc.disable()
    try:
        with Tinybird("https://store", "append", "read", transport=httpx.MockTransport(answer)) as tinybird:
            assert tinybird.append("llm_events", tinybird.encode([b"{}"])).successful == 1
            assert tinybird.query("SELECT 1") == []
            assert [one() for one in seen] == [None, None]
    finally:
        gc.enable()


@given(st.lists(st.binary(max_size=40).map(bytes.hex).map(str.encode), max_size=3 * PACKED_AT_ONCE + 1))
@example([b"x"] * PACKED_AT_ONCE)
@example([b"x"] * (PACKED_AT_ONCE + 1))
@example([b""] * 3)
def test_a_body_is_one_frame_of_all_rows(rows: list[bytes]) -> None:
    """With its length in front, which some readers need; the same rows are always the same bytes."""
    with Tinybird("https://store", "append", None) as tinybird:
        body = tinybird.encode(rows)
        assert tinybird.encode(rows) == body

    whole = b"\n".join(rows)
    assert zstandard.frame_content_size(body) == len(whole)
    assert zstandard.ZstdDecompressor().decompress(body) == whole


SOON = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("30", 30, 30), ("0.5", 0.5, 0.5), ("90000", 86_400, 86_400), (SOON, 7_000 - 3_600, 7_201), ("-5", 0, 0)],
    ids=["seconds", "a part of one", "over a day", "a date", "a moment ago"],
)
def test_retry_after(header: str, least: float, most: float) -> None:
    """A wait is never shorter than the header says, up to a day."""
    transport = httpx.MockTransport(lambda request: httpx.Response(429, headers={"Retry-After": header}))
    with Tinybird("https://store", "append", None, transport=transport) as tinybird:
        asked = tinybird.append("llm_events", b"{}").retry_after

    assert asked is not None
    assert least <= asked <= most


@pytest.mark.parametrize("header", ["soon", "1795000000", "nan", "inf", ""])
def test_an_invalid_retry_after(header: str) -> None:
    """An epoch time, or junk: the backoff decides."""
    transport = httpx.MockTransport(lambda request: httpx.Response(429, headers={"Retry-After": header}))
    with Tinybird("https://store", "append", None, transport=transport) as tinybird:
        assert tinybird.append("llm_events", b"{}").retry_after is None
