"""`track`: exactly one event, however the work ends."""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from birdfeed import TrackedEvent, current_event, track
from birdfeed.testing import Captured, capture


@pytest.fixture
def events() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


class Broken(Exception):  # noqa: N818
    pass


def test_a_block_is_timed_and_sent(events: Captured) -> None:
    """Status, times and duration are set; fields come from the call and from the block."""
    with track("image_generation", model="flux", user="u") as event:
        event["usage"] = {"prompt_tokens": 1}
        event.num_images = 2
        event.update(quality="high")
        assert event.model == "flux"

    sent = events.only
    assert sent.event_type == "image_generation"
    assert sent.data["status"] == "success"
    assert {name: sent.data[name] for name in ("model", "user", "num_images", "quality", "usage")} == {
        "model": "flux",
        "user": "u",
        "num_images": 2,
        "quality": "high",
        "usage": {"prompt_tokens": 1},
    }
    start, end = (datetime.fromisoformat(sent.data[name]) for name in ("start_time", "end_time"))
    assert start <= end
    assert 0 <= sent.data["duration"] < 60_000
    sent.validated()


def test_the_blocks_exception_is_raised(events: Captured) -> None:
    """And is in the event."""
    with pytest.raises(Broken, match="no"), track("text_generation", model="m"):
        raise Broken("no")

    assert events.only.data["status"] == "error"
    assert events.only.data["error"] == {"type": "Broken", "message": "no"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_exceptions_that_are_not_errors_are_raised_too(events: Captured, error: type[BaseException]) -> None:
    """Ctrl-C, exit, cancellation."""
    with pytest.raises(error), track("text_generation", model="m"):
        raise error

    expected = "cancelled" if error is asyncio.CancelledError else error.__name__
    assert events.only.data["error"]["type"] == expected


def test_what_the_handler_sets_has_priority(events: Captured) -> None:
    """Its own times and duration, and an error it handled itself."""
    with track("text_generation", model="m") as event:
        event.update(duration=5, start_time=1_700_000_000, error={"type": "Overloaded"})

    assert events.only.data["duration"] == 5
    assert events.only.data["start_time"] == 1_700_000_000
    assert events.only.data["status"] == "error"


def test_an_error_status_set_by_the_handler_stays(events: Captured) -> None:
    """A refusal without an exception."""
    with track("text_generation", model="m") as event:
        event.status = "error"

    assert events.only.data["status"] == "error"


def test_a_function_is_tracked_at_each_call(events: Captured) -> None:
    """The decorator keeps name and result; current_event() is that of the call, also in nested calls."""

    @track("text_generation", model="m")
    def answer(depth: int) -> int:
        """Doc."""
        current_event()["request_id"] = str(depth)
        if depth:
            answer(depth - 1)
        current_event()["chat_id"] = str(depth)
        return depth

    assert answer(2) == 2
    assert (answer.__name__, answer.__doc__) == ("answer", "Doc.")
    assert [(event.data["request_id"], event.data["chat_id"]) for event in events] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]


def test_outside_of_tracked_work_the_current_event_is_discarded(events: Captured) -> None:
    """Code that sets fields also works untracked."""
    current_event()["usage"] = 5

    assert isinstance(current_event(), TrackedEvent)
    assert len(events) == 0


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_an_async_function_is_tracked(events: Captured) -> None:
    """It stays a coroutine function, and each task has its own event."""

    @track("text_generation")
    async def answer(number: int) -> int:
        current_event()["model"] = f"m{number}"
        await asyncio.sleep(0)
        current_event()["user"] = f"u{number}"
        if number == 3:
            raise Broken
        return number

    async def main() -> list[Any]:
        return await asyncio.gather(*(answer(number) for number in range(5)), return_exceptions=True)

    assert inspect.iscoroutinefunction(answer)
    assert [result for result in run(main()) if isinstance(result, int)] == [0, 1, 2, 4]
    assert sorted((event.data["model"], event.data["user"], event.data["status"]) for event in events) == [
        (f"m{number}", f"u{number}", "error" if number == 3 else "success") for number in range(5)
    ]


def test_cancelled_work_is_an_error_of_type_cancelled(events: Captured) -> None:
    """As when a client disconnects and the request's task is cancelled."""

    @track("text_generation", model="m")
    async def answer() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(answer())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(main())
    assert events.only.data["status"] == "error"
    assert events.only.data["error"]["type"] == "cancelled"


def test_async_with_works_too(events: Captured) -> None:
    """The same block."""

    async def main() -> None:
        async with track("text_generation", model="m") as event:
            event.user = "u"

    run(main())
    assert events.only.data["user"] == "u"


@track("text_generation", model="m")
def parts(fail: bool = False) -> Generator[int, Any, int]:
    given = yield 1
    current_event()["request_id"] = given
    try:
        yield 2
    finally:
        current_event()["chat_id"] = "cleaned up"
    if fail:
        raise Broken
    current_event()["usage"] = {"completion_tokens": 2}
    return 3


def test_a_generator_is_tracked_to_its_end(events: Captured) -> None:
    """Sent and returned values are passed on; the event is sent at the end, not before."""
    stream = parts()
    assert next(stream) == 1
    assert stream.send("r") == 2
    assert len(events) == 0
    with pytest.raises(StopIteration) as stop:
        next(stream)

    assert stop.value.value == 3
    assert inspect.isgeneratorfunction(parts)
    assert events.only.data["request_id"] == "r"
    assert events.only.data["usage"] == {"completion_tokens": 2}
    assert events.only.data["status"] == "success"


def test_a_generator_that_fails(events: Captured) -> None:
    """By its own error, or by an exception thrown into it."""
    with pytest.raises(Broken):
        list(parts(fail=True))
    stream = parts()
    next(stream)
    with pytest.raises(KeyError):
        stream.throw(KeyError("thrown"))

    assert [event.data["error"]["type"] for event in events] == ["Broken", "KeyError"]


def test_a_generator_that_is_closed(events: Captured) -> None:
    """The client disconnected; the generator's clean-up still adds to the event."""
    stream = parts()
    next(stream)
    next(stream)
    stream.close()

    assert events.only.data["error"]["type"] == "cancelled"
    assert events.only.data["chat_id"] == "cleaned up"


def test_current_event_does_not_leak_between_steps(events: Captured) -> None:
    """Between two parts the caller's code runs, with its own current event."""
    with track("image_generation", model="outer"):
        for _ in parts():
            current_event()["user"] = "outer"

    text, image = events
    assert "user" not in text.data
    assert image.data["user"] == "outer"


@track("text_generation", model="m")
async def async_parts(fail: bool = False) -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(0)
    current_event()["user"] = "u"
    yield 2
    if fail:
        raise Broken


def test_an_async_generator_is_tracked_to_its_end(events: Captured) -> None:
    """Finished, with an error, and closed early."""

    async def main() -> None:
        assert [part async for part in async_parts()] == [1, 2]
        with pytest.raises(Broken):
            [part async for part in async_parts(fail=True)]
        async with aclosing(async_parts()) as stream:  # type: ignore[type-var]
            async for _ in stream:
                break

    run(main())
    assert inspect.isasyncgenfunction(async_parts)
    assert [event.data.get("error", {}).get("type") for event in events] == [None, "Broken", "cancelled"]


def test_a_function_that_returns_a_generator_is_tracked_to_its_end(events: Captured) -> None:
    """Its event waits for the last part; an unread stream ends the work when it is garbage-collected."""

    @track("text_generation", model="m")
    def answer() -> Iterator[int]:
        return (number for number in range(3))

    assert list(answer()) == [0, 1, 2]
    stream = answer()
    next(stream)
    assert len(events) == 1
    del stream
    gc.collect()
    answer()
    gc.collect()

    assert [event.data["status"] for event in events] == ["success", "error", "error"]
    assert [event.data.get("error", {}).get("type") for event in events] == [None, "cancelled", "cancelled"]


def test_one_context_manager_used_again_and_inside_itself(events: Captured) -> None:
    """Each block is an event of its own."""
    work = track("text_generation", model="m")
    with work as outer:
        outer.user = "outer"
        with work as inner:
            inner.user = "inner"
    with work:
        pass

    assert [event.data.get("user") for event in events] == ["inner", "outer", None]


def test_nothing_a_handler_sets_makes_track_raise(events: Captured) -> None:
    """An event that can't be sent is counted, and the work's result is not affected."""

    class Odd:
        def __bool__(self) -> bool:
            raise RuntimeError("no")

    with track("text_generation", model="m") as event:
        event["error"] = Odd()
        event[5] = 1  # type: ignore[index]

    assert len(events) + sum(events.dropped.values()) == 1


def test_one_object_in_two_concurrent_tasks(events: Captured) -> None:
    """Each block has its own event, in whatever order they end."""
    shared = track("text_generation", model="m")

    async def work(user: str, rounds: int) -> None:
        with shared as event:
            event["user"] = user
            for _ in range(rounds):
                await asyncio.sleep(0)
            assert current_event() is event
            event["request_id"] = user

    async def main() -> None:
        await asyncio.gather(work("slow", 3), work("fast", 9), work("faster", 1))

    asyncio.run(main())
    assert {event.data["user"]: event.data["request_id"] for event in events} == {
        name: name for name in ("slow", "fast", "faster")
    }


def test_a_function_that_returns_a_coroutine(events: Captured) -> None:
    """As from a plain decorator around a coroutine function: the event covers the coroutine."""

    def other(function: Any) -> Any:
        return lambda *args: function(*args)

    @track("text_generation", model="m")
    @other
    async def work(fail: bool) -> str:
        await asyncio.sleep(0)
        current_event()["user"] = "u"
        if fail:
            raise ValueError("broken")
        return "done"

    assert asyncio.run(work(False)) == "done"
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(work(True))
    assert [(event.data["status"], event.data["user"]) for event in events] == [("success", "u"), ("error", "u")]


def test_a_function_that_returns_a_task(events: Captured) -> None:
    """Followed to its end as well."""

    async def inner(fail: bool) -> None:
        await asyncio.sleep(0)
        if fail:
            raise ValueError("broken")

    @track("text_generation", model="m")
    def start(fail: bool) -> Any:
        return asyncio.ensure_future(inner(fail))

    async def main() -> None:
        tasks = [start(False), start(True)]
        assert len(events) == 0
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [event.data["status"] for event in events] == ["success", "error"]


def test_a_mock_as_a_result_ends_the_work(events: Captured) -> None:
    """It has every attribute, and would never finish."""

    @track("text_generation", model="m")
    def work() -> Any:
        return Mock(spec=["add_done_callback", "exception"])

    work()
    assert len(events) == 1


def test_the_bare_form_is_refused_when_it_is_applied() -> None:
    """It recorded a wrong event, and the function never ran."""
    with pytest.raises(TypeError, match="text_generation"):

        @track  # type: ignore[call-overload]
        def work() -> None:
            raise AssertionError
