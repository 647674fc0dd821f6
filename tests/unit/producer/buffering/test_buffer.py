"""The buffer: bounds by events and bytes, what is dropped at them, and concurrent threads."""

import sys
import threading
from typing import Any, Literal

import pytest
from birdfeed.buffering.buffer import Buffer
from birdfeed.runtime.wake import Wake
from birdfeed.stats import Counters


def make(
    policy: Literal["newest", "oldest"] = "newest", events: int = 10, size: int = 1_000
) -> tuple[Buffer, Counters]:
    counters = Counters()
    buffer = Buffer(counters=counters, wake=Wake(), max_events=events, max_bytes=size, drop_policy=policy)
    return buffer, counters


def item(number: int, size: int = 10) -> tuple[Any, ...]:
    return "text_generation", b"x" * size, number


def numbers(buffer: Buffer) -> list[int]:
    return [taken[2] for taken in buffer.take(10**6, 10**9)]


@pytest.mark.parametrize(("policy", "kept"), [("newest", range(10)), ("oldest", range(5, 15))])
def test_events_over_the_bound_are_dropped_by_the_policy(policy: Any, kept: range) -> None:
    """Fifteen events into room for ten."""
    buffer, counters = make(policy)

    added = [buffer.put(item(number)) for number in range(15)]

    assert added == [policy == "oldest" or number < 10 for number in range(15)]
    assert numbers(buffer) == list(kept)
    assert counters.dropped() == {"buffer_full": 5}


@pytest.mark.parametrize(("policy", "kept"), [("newest", [0, 1]), ("oldest", [2, 3])])
def test_bytes_over_the_bound_are_dropped_by_the_policy(policy: Any, kept: list[int]) -> None:
    """Four events of 400 bytes into room for 1,000."""
    buffer, counters = make(policy)

    for number in range(4):
        buffer.put(item(number, 400))

    assert numbers(buffer) == kept
    assert counters.dropped() == {"buffer_full": 2}


def test_room_is_free_again_when_events_are_taken() -> None:
    """The count of bytes falls too, after many rounds as well."""
    buffer, counters = make()

    for _ in range(50):
        for number in range(3):
            buffer.put(item(number, 300))
        assert buffer.size == 900
        assert numbers(buffer) == [0, 1, 2]
        assert buffer.size == 0

    assert counters.dropped() == {}


def test_taking_stops_at_either_limit() -> None:
    """By count, and by bytes, which the last event may exceed."""
    buffer, _ = make()
    for number in range(6):
        buffer.put(item(number, 100))

    assert len(buffer.take(2, 10**9)) == 2
    assert len(buffer.take(100, 150)) == 2
    assert buffer.size == 200


def test_what_is_put_back_comes_first() -> None:
    """In its order, before later events."""
    buffer, _ = make()
    for number in range(4):
        buffer.put(item(number))
    taken = buffer.take(2, 10**9)
    buffer.put_back(taken)

    assert buffer.size == 40
    assert numbers(buffer) == [0, 1, 2, 3]


@pytest.mark.parametrize(("events", "size"), [(5, 10), (2, 200)])
def test_a_filling_buffer_wakes_the_flusher(events: int, size: int) -> None:
    """From half full on, by count or by bytes, before its interval is over."""
    counters = Counters()
    wake = threading.Event()
    buffer = Buffer(counters=counters, wake=wake, max_events=10, max_bytes=1_000)  # type: ignore[arg-type]  # it can tell

    for number in range(events):
        buffer.put(item(number, size))
    before = wake.is_set()
    buffer.put(item(events, size))

    assert (before, wake.is_set()) == (False, True)


def test_hundreds_of_threads_lose_nothing() -> None:
    """Two hundred threads put while another takes, with the shortest switch interval."""
    buffer, counters = make(events=10**6, size=10**9)

    def fill(start: int) -> None:
        for number in range(start, start + 100):
            buffer.put(item(number))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=fill, args=(start,)) for start in range(0, 20_000, 100)]
        for thread in threads:
            thread.start()
        seen: list[int] = []
        while any(thread.is_alive() for thread in threads):
            seen += [taken[2] for taken in buffer.take(50, 10**9)]
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    seen += numbers(buffer)

    assert sorted(seen) == list(range(20_000))
    assert counters.dropped() == {}
    assert buffer.size == 0
