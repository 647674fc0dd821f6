"""One request with a fake rate limiter: its calls, and how long rows wait."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.rate_limit import Admission, RateLimiter
from birdfeed_worker.flow.refusals import Refusals
from birdfeed_worker.model import Dead, Deferred, Item, Written
from birdfeed_worker.pipeline.send import REFUSED_ROWS_UNTIL_PAUSE, SHORT_WAIT, Sender
from birdfeed_worker.tinybird.decide import Answer

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, Stop, items, sender_of

REJECTED = Dead("rejected", "HTTP 400: bad")


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def sender(store: FakeStore, limiter: RateLimiter, stop: Stop) -> Sender:
    return sender_of(store, limiter, Clock(stop=stop, time=lambda: NOW))  # type: ignore[arg-type]


def send(sender: Sender, count: int = 3) -> list[Item]:
    made = items(count)
    sender.send("llm_events", made, "e1")
    return made


def always(**answer: Any) -> Callable[[Sequence[Any]], Answer]:
    return lambda rows: Answer(**answer)


class Lets:
    """A rate limiter with given answers (then it admits immediately), which records its calls."""

    def __init__(self, *waits: float, probe: bool = False) -> None:
        self.waits = list(waits)
        self.probe = probe
        self.asked: list[int] = []
        self.told: list[str] = []

    def admit(self, destination: str, size: int) -> Admission:
        self.asked.append(size)
        wait = self.waits.pop(0) if self.waits else 0.0
        return Admission(wait, "rate", "1.5", self.probe and wait <= 0)

    def available(self, destination: str, admission: Admission) -> None:
        self.told.append("available")

    def inconclusive(self, destination: str) -> None:
        self.told.append("inconclusive")

    def back_off(self, destination: str, asked: float | None, reason: str) -> float:
        self.told.append(f"back off: {reason}")
        return 10.0

    def paused(self, destination: str, reason: str) -> float:
        self.told.append(f"paused: {reason}")
        return 20.0


@pytest.fixture
def let(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lets]:
    """Give the sender such a limiter."""

    def let(*waits: float, probe: bool = False) -> Lets:
        made = Lets(*waits, probe=probe)
        monkeypatch.setattr(sender, "limiter", made)
        return made

    return let


def test_the_rate_is_of_bytes_in_the_request(sender: Sender, let: Callable[..., Lets]) -> None:
    """Each row with its line end."""
    limiter = let()

    send(sender)  # which drops the rows that are written

    assert limiter.asked == [sum(len(item.row) + 1 for item in items(3))]


@pytest.mark.parametrize(
    ("waits", "waited", "until"),
    [
        ((0.0,), [], None),
        ((-1.0,), [], None),
        ((0.5, 1.0), [0.5, 1.0], None),
        ((SHORT_WAIT,), [SHORT_WAIT], None),
        ((SHORT_WAIT + 0.1,), [], NOW + SHORT_WAIT + 0.1),
        ((0.5, 60.0), [0.5], NOW + 60),
    ],
)
def test_the_length_of_a_wait(
    sender: Sender,
    store: FakeStore,
    stop: Stop,
    let: Callable[..., Lets],
    waits: tuple[float, ...],
    waited: list[float],
    until: float | None,
) -> None:
    """A short wait keeps the jobs in flight, and then the limiter is called again."""
    limiter = let(*waits)

    outcomes = {item.outcome for item in send(sender)}

    assert outcomes == {Written() if until is None else Deferred(until)}
    assert (stop.waited, len(store.requests)) == (waited, int(until is None))
    assert limiter.told == (["available"] if until is None else [])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 413}, []),
        ({"status": 400}, []),
        ({"status": 503}, ["back off: HTTP 503"]),
        ({"status": 404}, ["paused: HTTP 404"]),
        ({"status": 401}, ["paused: HTTP 401"]),
        ({"status": 500}, ["back off: HTTP 500"]),
        ({"status": 200, "successful": 1, "quarantined": 0}, ["available"]),
        ({"status": 200, "successful": 0, "quarantined": 1}, ["available"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("probe", [True, False])
def test_what_is_reported_to_the_limiter(
    sender: Sender, store: FakeStore, let: Callable[..., Lets], answer: dict[str, Any], told: list[str], probe: bool
) -> None:
    """A probe ends with any result; another worker's probe doesn't."""
    limiter = let(probe=probe)
    store.rules.append(always(**answer))

    send(sender, 1)

    assert limiter.told == told + ["inconclusive"] * probe


@pytest.mark.parametrize(("answer", "seconds"), [(503, 10.0), (404, 20.0), (401, 20.0)])
def test_rows_wait_as_long_as_the_limiter_says(
    sender: Sender, store: FakeStore, let: Callable[..., Lets], answer: int, seconds: float
) -> None:
    let()
    store.rules.append(always(status=answer))

    assert {item.outcome for item in send(sender)} == {Deferred(NOW + seconds)}


@pytest.mark.parametrize(
    ("rows", "requests", "pause"),
    [(1, 1, False), (2, 3, True), (REFUSED_ROWS_UNTIL_PAUSE, 2 * REFUSED_ROWS_UNTIL_PAUSE - 1, True)],
)
def test_how_many_refused_rows_pause_the_destination(
    sender: Sender, store: FakeStore, let: Callable[..., Lets], rows: int, requests: int, pause: bool
) -> None:
    """All rows of a request, but not a single row."""
    limiter = let()
    store.rules.append(always(status=400, detail="bad"))

    made = send(sender, rows)

    assert {item.outcome for item in made} == {Deferred(NOW + 20) if pause else REJECTED}
    assert (len(store.requests), limiter.told) == (
        requests,
        ["paused: every request is refused: HTTP 400: bad"] if pause else [],
    )


def test_after_eight_refused_rows_no_other_is_tried(sender: Sender, store: FakeStore, let: Callable[..., Lets]) -> None:
    """The other rows wait with them, and were only tried in the parts that were halved before."""
    let()
    store.rules.append(always(status=400))

    made = send(sender, 64)

    assert {item.outcome for item in made} == {Deferred(NOW + 20)}
    alone = [request for request in store.requests if len(request) == 1]
    assert len(alone) == REFUSED_ROWS_UNTIL_PAUSE
    assert [len(request) for request in store.requests[-3:]] == [8, 16, 32]


@pytest.mark.parametrize(("budget", "requests"), [(1, [2]), (2, [4, 2, 2]), (3, [4, 2, 1, 1, 2])])
def test_the_limit_of_the_search_for_a_bad_row(
    sender: Sender,
    store: FakeStore,
    let: Callable[..., Lets],
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
    requests: list[int],
) -> None:
    """In refused requests."""
    limiter = let()
    monkeypatch.setattr(sender, "bisect_requests", budget)
    store.rules.append(always(status=400))

    send(sender, requests[0])

    assert [len(request) for request in store.requests] == requests
    assert limiter.told


def test_columns_are_read_again_after_a_quarantine(
    sender: Sender, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows may be for a table that was exchanged."""
    forgotten: list[str] = []
    monkeypatch.setattr(store, "forget_columns", forgotten.append)
    send(sender)
    assert forgotten == []
    store.rules.append(always(status=200, successful=2, quarantined=1))

    send(sender)

    assert forgotten == ["llm_events"]


@pytest.mark.parametrize(("everybody", "expected"), [(False, Deferred()), (True, Deferred(NOW + 20))])
def test_a_refused_token(
    sender: Sender,
    store: FakeStore,
    let: Callable[..., Lets],
    monkeypatch: pytest.MonkeyPatch,
    everybody: bool,
    expected: Deferred,
) -> None:
    """If others have a valid one the rows are free immediately; if none has, all wait."""
    limiter = let()
    monkeypatch.setattr(Refusals, "_everybody", lambda self, datasource: everybody)
    store.rules.append(always(status=403))

    made = send(sender)

    assert {item.outcome for item in made} == {expected}
    assert limiter.told == (["paused: HTTP 403"] if everybody else [])


def test_a_worker_whose_token_is_refused_leaves_rows_to_others(
    sender: Sender, store: FakeStore, let: Callable[..., Lets], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends nothing for now, and its rows are free immediately."""
    limiter = let()
    monkeypatch.setattr(Refusals, "_everybody", lambda self, datasource: False)
    store.rules.append(always(status=403))
    send(sender)

    assert {item.outcome for item in send(sender)} == {Deferred()}
    assert (len(store.requests), len(limiter.asked)) == (1, 1)


def test_a_row_refused_with_one_that_is_too_large(sender: Sender, store: FakeStore, let: Callable[..., Lets]) -> None:
    """Both had an answer, and no row was given back untried: both are dead-lettered."""
    let()
    answers = {(0, 1): 413, (0,): 413, (1,): 400}
    store.rules.append(lambda rows: Answer(status=answers[tuple(row["n"] for row in rows)], detail="bad"))

    made = send(sender, 2)

    assert [item.outcome for item in made] == [
        Dead("too_large", "one row is over the store's limit: HTTP 413: bad"),
        REJECTED,
    ]
