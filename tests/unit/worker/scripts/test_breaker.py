"""circuit_breaker.lua: outcomes of a type's events, and the share that fails for one reason."""

import json
from typing import Any

import pytest

from tests.support.worker.lua import Scripts

WINDOW, TRIPPED, OFF = "breaker-window_t", "breaker", "breaker-off"


def count(run: Scripts, came: int, *dead: Any) -> str:
    """Count with a limit of half of at least ten events, and a window of forty."""
    return str(run("circuit_breaker", "t", 0.5, 10, 40, came, *dead))


def test_counts_are_kept_for_an_hour(run: Scripts) -> None:
    """For all events, and for each reason."""
    assert count(run, 6, "invalid", 2, "rejected", 1) == ""
    assert count(run, 3, "invalid", 1) == ""

    assert run.all() == {run.key(WINDOW): {"all": "9", "dead:invalid": "3", "dead:rejected": "1"}}
    assert 3_500 < run.redis.ttl(run.key(WINDOW)) <= 3_600


@pytest.mark.parametrize(
    ("came", "dead", "trips"),
    [(9, 9, False), (10, 10, True), (20, 10, False), (20, 11, True)],
)
def test_it_trips_above_the_share(run: Scripts, came: int, dead: int, trips: bool) -> None:
    """From the minimum number of events on."""
    assert count(run, came, "invalid", dead) == ("invalid" if trips else "")
    assert (run.read(TRIPPED) is not None) == trips


@pytest.mark.parametrize("reasons", [("a", 15, "b", 3), ("b", 3, "a", 15)])
def test_the_most_frequent_reason(run: Scripts, reasons: tuple[Any, ...]) -> None:
    """It is named, with the counts and the start; the counts are reset."""
    assert count(run, 20, *reasons) == "a"

    entry = json.loads(run.read(TRIPPED)["t"])
    assert entry.pop("since") == pytest.approx(run.now(), abs=60)
    assert entry == {"reason": "a", "dead": 15, "seen": 20}
    assert list(run.all()) == [run.key(TRIPPED)]


def test_once_tripped_nothing_is_counted(run: Scripts) -> None:
    """Every call returns the reason."""
    count(run, 20, "a", 20)
    before = run.all()

    assert count(run, 20, "b", 20) == "a"

    assert run.all() == before


@pytest.mark.parametrize("junk", ["not JSON", "5", "{}", '{"reason":5}', '"reason"', "null"])
def test_an_entry_that_birdfeed_did_not_write(run: Scripts, junk: str) -> None:
    """It stops nothing, and is deleted."""
    run.put(**{TRIPPED: {"t": junk, "u": junk}})

    assert count(run, 3) == ""

    assert run.all() == {run.key(TRIPPED): {"u": junk}, run.key(WINDOW): {"all": "3"}}


@pytest.mark.parametrize(("until", "off"), [(50, True), (-50, False)])
def test_while_it_is_disabled(run: Scripts, until: float, off: bool) -> None:
    """It counts nothing until then, and resets its counts."""
    run.put(**{OFF: {"t": repr(run.now() + until)}, WINDOW: {"all": "5", "dead:a": "5"}})

    assert count(run, 20, "a", 20) == ("" if off else "a")

    assert run.read(WINDOW) is None
    assert (run.read(TRIPPED) is None) == off


def test_old_counts_are_halved(run: Scripts) -> None:
    """Above forty events all counts are halved; junk among them counts as 0."""
    run.put(**{WINDOW: {"all": "39", "dead:a": "5", "dead:b": "x"}})

    assert count(run, 1) == ""
    assert run.read(WINDOW) == {"all": "40", "dead:a": "5", "dead:b": "x"}
    assert count(run, 1) == ""
    assert run.read(WINDOW) == {"all": "20", "dead:a": "2", "dead:b": "0"}


def test_an_invalid_count_starts_again(run: Scripts) -> None:
    """And so does one beside it that is too large to be one."""
    run.put(**{WINDOW: {"all": "x", "dead:a": "9" * 30}})

    assert count(run, 7, "a", 2) == ""

    assert run.read(WINDOW) == {"all": "7", "dead:a": "2"}
