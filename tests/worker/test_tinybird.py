"""The client of the store, without a store."""

import gc
import weakref

import httpx
from birdfeed_worker.tinybird import Tinybird


def test_nothing_of_a_request_waits_for_the_cycle_collector() -> None:
    """It comes rarely in a worker, and a request's body is half a megabyte."""
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
