"""Fields that the events of a request share."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from birdfeed import EventType, context, track, track_event
from birdfeed.logging_once import forget
from birdfeed.request_context import inherited
from birdfeed.testing import Captured, capture
from birdfeed.typed import ContextFields
from birdfeed_schemas.fields import COMMON


@pytest.fixture
def events() -> Iterator[Captured]:
    with capture() as captured:
        yield captured
    assert inherited.get() is None


def users(events: Captured) -> list[Any]:
    return [event.data.get("user") for event in events]


def test_both_calls_inherit(events: Captured) -> None:
    """track_event and track; outside of the block no event does."""
    with context(user="ada", tier="gold", request_id=7):
        track_event("text_generation", {"model": "m"})
        with track("image_generation", model="m") as event:
            assert event.user == "ada"
    track_event("text_generation", {"model": "m"})

    assert users(events) == ["ada", "ada", None]
    assert events[0].data == {"model": "m", "user": "ada", "tier": "gold", "request_id": 7}


@pytest.mark.parametrize("own", [{"user": "eve"}, {"userId": "eve"}, {"user": None}])
def test_an_events_own_field_has_priority(events: Captured, own: dict[str, Any]) -> None:
    """In any spelling, None too."""
    with context(user="ada", tier="gold"):
        track_event(EventType("text_generation"), {"model": "m", **own})

    assert users(events) == [next(iter(own.values()))]
    assert events.only.data["tier"] == "gold"


def test_blocks_nest(events: Captured) -> None:
    """The inner one adds to the outer one, and also ends with an exception."""
    with context(user="ada", tier="gold"):
        with pytest.raises(RuntimeError), context(user="bob", project="p"):  # noqa: PT012 - the block is what is tested
            track_event("text_generation", {"model": "m"})
            raise RuntimeError
        track_event("text_generation", {"model": "m"})

    assert [event.data.get("project") for event in events] == ["p", None]
    assert users(events) == ["bob", "ada"]
    assert [event.data["tier"] for event in events] == ["gold", "gold"]


def test_across_await_tasks_and_threads(events: Captured) -> None:
    """Each of many concurrent requests has its own."""

    async def request(user: str) -> None:
        with context(user=user):
            await asyncio.sleep(0)
            track_event("text_generation", {"model": user})
            await asyncio.create_task(later(user))
            await asyncio.to_thread(track_event, "text_generation", {"model": user})

    async def later(user: str) -> None:
        await asyncio.sleep(0)
        track_event("text_generation", {"model": user})

    async def main() -> None:
        await asyncio.gather(*(request(f"u{number}") for number in range(20)))

    asyncio.run(main())
    assert len(events) == 60
    assert all(event.data["user"] == event.data["model"] for event in events)


def test_a_bare_thread_does_not_inherit(events: Captured) -> None:
    """As documented; contextvars.copy_context() passes it on."""
    with context(user="ada"):
        thread = threading.Thread(target=track_event, args=("text_generation", {"model": "m"}))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, lambda: track_event("text_generation", {"model": "m"})).result()

    assert users(events) == [None, "ada"]


def test_a_stream_keeps_the_context_in_which_it_began(events: Captured) -> None:
    """It may be read, or garbage-collected, in another request's context."""

    @track("text_generation", model="m")
    def answer() -> Iterator[int]:
        yield 1

    def begun(user: str) -> Iterator[int]:
        with context(user=user):
            stream = answer()
            next(stream)
            return stream

    with track("text_generation", model="m"):
        pass
    stream, forgotten = begun("ada"), begun("ada")
    with context(user="eve", tier="gold"):
        assert list(stream) == []
        del forgotten
        gc.collect()

    assert users(events) == [None, "ada", "ada"]
    assert all("tier" not in event.data for event in events)


def test_a_field_that_cannot_be_inherited(events: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and logged once; a handler must not raise."""
    forget()
    for _ in range(2):
        with context(usr="ada", tier="gold"):  # type: ignore[call-arg]
            track_event("text_generation", {"model": "m"})

    assert events[0].data == {"model": "m", "tier": "gold"}
    assert caplog.text.count("did you mean user?") == 1


def test_bad_calls_are_counted_as_without_a_context(events: Captured) -> None:
    """With data that is not a mapping."""
    with context(user="ada"):
        track_event(EventType("text_generation"), None)  # type: ignore[call-overload]

    assert events.dropped == {"bad_call": 1}


def test_what_may_be_inherited_is_a_field_of_every_type() -> None:
    """Otherwise events of the other type would lose it."""
    assert set(ContextFields.__annotations__) <= set(COMMON)
