"""The search for the event that kills: bisection in forked children, three crashes alone.

No event is confirmed by chance.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.process.poison import child_survives, search
from birdfeed_worker.queue.codec import pack

from tests.support.events import envelope, text
from tests.support.events import pack as pack_batch

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


def job(number: int, models: Sequence[str]) -> ReservedJob:
    packed = pack_batch([envelope(text(model=model)) for model in models], f"b{number}")
    return ReservedJob(
        id=str(number), execution="", data=pack(packed), event_type="text_generation", events=len(models), size=0,
        attempts=1, first_reserved=0.0,
    )  # fmt: skip


def work(deadly: Callable[[str], None]) -> Callable[[Sequence[ReservedJob]], None]:
    def work_on(jobs: Sequence[ReservedJob]) -> None:
        for item in decode(jobs).items:
            assert item.envelope is not None
            deadly(item.envelope.data["model"])

    return work_on


def crash(model: str) -> None:
    if model == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)


def soon() -> float:
    return time.monotonic() + 60


def test_poison_events_are_found_among_many() -> None:
    """Two of a hundred events, in different jobs; no other event is confirmed."""
    jobs = [job(n, ["fine"] * 25) for n in range(4)]
    jobs[1] = job(1, ["fine"] * 7 + ["deadly"] + ["fine"] * 17)
    jobs[3] = job(3, ["deadly"] + ["fine"] * 24)

    assert search(jobs, work(crash), soon()) == [(1, 7), (3, 0)]


def test_no_event_is_confirmed_if_the_worker_was_killed_from_outside() -> None:
    """All survive together: one child, none confirmed."""
    assert search([job(0, ["fine"] * 10)], work(crash), soon()) == []


def test_an_endless_loop_is_a_poison_event(tmp_path: Path) -> None:
    """A child that takes too long counts as crashed."""

    def loop(model: str) -> None:
        while model == "deadly":
            pass

    assert search([job(0, ["fine", "deadly", "fine"])], work(loop), soon(), child_seconds=0.5) == [(0, 1)]


def test_a_child_killed_by_chance_confirms_no_event(tmp_path: Path) -> None:
    """Three crashes alone are needed; an event whose child crashes once or twice is not confirmed."""
    deaths = tmp_path / "deaths"
    deaths.write_text("")

    def unlucky(model: str) -> None:
        # The first three children crash: with all events, with half of them, with the event alone; the next one
        # survives.
        if len(deaths.read_text()) < 3:
            deaths.write_text(deaths.read_text() + "x")
            os.kill(os.getpid(), signal.SIGKILL)

    assert search([job(0, ["fine", "fine"])], work(unlucky), soon()) == []


def test_a_child_that_raises_did_not_survive(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever makes it exit early."""

    def boom() -> None:
        raise RuntimeError

    assert child_survives(lambda: None, 5)
    assert not child_survives(boom, 5)
    assert not child_survives(lambda: os._exit(3), 5)
