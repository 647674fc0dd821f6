"""The writer: what happens to each row after each answer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.flow.rate_limit import RateLimiter
from birdfeed_worker.model import Dead, Deferred, Written
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.tinybird.decide import Answer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.worker.fake_store import FakeStore, taken
from tests.support.worker.writing import NOW, Write, items, job, outcomes, sender_of


def test_rows_go_in_one_request(write: Write, store: FakeStore, marks: list[tuple[str, ...]]) -> None:
    """Without errors: one POST, marked before, all written."""
    made = items(10)

    write(made)

    assert outcomes(made) == ["Written"] * 10
    assert len(store.requests) == 1
    assert marks == [("job-0", "job-1", "job-2")]


def test_one_bad_row_is_found_and_the_others_are_written(write: Write, store: FakeStore) -> None:
    """400: halved until the bad row is alone; about two requests for each halving."""
    made = items(100)
    assert made[41].envelope is not None
    bad = made[41].envelope.event_id
    store.rules.append(
        lambda rows: Answer(status=400, detail="bad row") if bad in {r["event_id"] for r in rows} else None
    )

    write(made)

    assert made[41].outcome == Dead("rejected", "HTTP 400: bad row")
    assert outcomes(made).count("Written") == 99
    assert sorted(store.ids()) == sorted(i.envelope.event_id for i in made if i is not made[41] and i.envelope)
    assert len(store.requests) <= 15


def test_two_bad_rows_in_different_halves_do_not_pause_the_stream(write: Write, store: FakeStore) -> None:
    """Both halves are answered with 400 because of one row each: the rest is written."""
    made = items(64)
    bad = {i.envelope.event_id for i in (made[3], made[60]) if i.envelope}
    store.rules.append(lambda rows: Answer(status=400) if bad & {r["event_id"] for r in rows} else None)

    write(made)

    assert [n for n, item in enumerate(made) if isinstance(item.outcome, Dead)] == [3, 60]
    assert outcomes(made).count("Written") == 62


@pytest.mark.heavy
def test_if_everything_is_refused_no_row_is_the_cause(write: Write, store: FakeStore, redis: Redis) -> None:
    """400 for every request: the destination pauses, nothing is dead-lettered, and the budget limits the requests."""
    made = items(500)
    store.rules.append(lambda rows: Answer(status=400, detail="no"))

    write(made)

    assert outcomes(made) == ["Deferred"] * 500
    assert len(store.requests) <= 64
    assert redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "paused") == b"1"


def test_a_store_that_recovers_in_the_middle_dead_letters_nothing(write: Write, store: FakeStore) -> None:
    """Rows refused alone while everything was refused are tried again once the store accepts rows."""
    made = items(64)
    answers = iter([Answer(status=400)] * 9)
    store.rules.append(lambda rows: next(answers, None))

    write(made)

    assert outcomes(made) == ["Written"] * 64


def test_413_halves(write: Write, store: FakeStore) -> None:
    """A body that is too large is split; a single row that is too large is dead-lettered."""
    made = items(9)
    assert made[4].envelope is not None
    huge = made[4].envelope.event_id
    store.rules.append(
        lambda rows: Answer(status=413) if len(rows) > 3 or huge in {r["event_id"] for r in rows} else None
    )

    write(made)

    assert outcomes(made).count("Written") == 8
    assert made[4].outcome == Dead("too_large", "one row is over the store's limit: HTTP 413")


@pytest.mark.parametrize("status", [429, 503])
def test_nothing_written_waits_for_retry_after(write: Write, store: FakeStore, status: int) -> None:
    """429 and 503: back to wait, never less than Retry-After; no mark of an unknown outcome."""
    made = items(3)
    store.rules.append(lambda rows: Answer(status=status, retry_after=30))

    write(made)

    for item in made:
        assert isinstance(item.outcome, Deferred)
        assert NOW + 30 <= item.outcome.until <= NOW + 33.1
        assert item.outcome.maybe_written_since is None


def test_a_paused_destination_gets_no_request(write: Write, store: FakeStore) -> None:
    """After a 503 the rest of the pool's rows wait without a request."""
    store.rules.append(lambda rows: Answer(status=503, retry_after=30))
    write(items(3))
    more = items(3)

    write(more)

    assert outcomes(more) == ["Deferred"] * 3
    assert len(store.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_misconfigured_pauses_and_defers(write: Write, store: FakeStore, redis: Redis, status: int) -> None:
    """Events are neither lost nor dead-lettered: they wait until the settings are fixed."""
    made = items(3)
    store.rules.append(lambda rows: Answer(status=status, detail="who are you"))

    write(made)

    assert outcomes(made) == ["Deferred"] * 3
    destination = redis.hgetall("rq:birdfeed:birdfeed:destination:llm_events")
    assert (destination[b"paused"], destination[b"reason"]) == (b"1", f"HTTP {status}: who are you".encode())


def test_without_a_read_token_identical_bytes_are_sent_again(
    write: Write, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without verification the same bytes are sent a few times, in case Tinybird recognises them."""
    store.readable = False
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: False)
    answers = iter([Answer(status=500), Answer(status=502)])
    store.rules.append(lambda rows: next(answers, None))
    made = items(2)

    write(made)

    assert outcomes(made) == ["Written"] * 2
    assert len(store.bodies) == 3
    assert len(set(store.bodies)) == 1


def test_quarantined_rows_are_found_and_recorded_with_the_reason(write: Write, store: FakeStore) -> None:
    """Tinybird says how many; the quarantine table says which and why. None is sent again without a replay."""
    made = items(5)

    def set_aside(rows: list[dict[str, Any]]) -> Answer:
        store.quarantine["llm_events"] = {rows[1]["event_id"]: "not a number"}
        store.keep("llm_events", [row for n, row in enumerate(rows) if n != 1])
        return Answer(status=200, successful=4, quarantined=1)

    store.rules.append(set_aside)

    write(made)

    assert made[1].outcome == Dead("quarantined", "cost: not a number")
    assert outcomes(made).count("Written") == 4


def test_rows_of_jobs_that_another_worker_has_are_not_sent(write: Write, store: FakeStore) -> None:
    """The mark before the POST is a fence, too."""
    made = items(3)
    made[0].job_id = "job-of-somebody-else"

    write(made)

    assert made[0].outcome == Deferred()
    assert len(store.ids()) == 2


def test_a_job_that_keeps_failing_is_sent_in_ever_smaller_parts(write: Write, store: FakeStore) -> None:
    """A row that makes the store fail is alone in the end: all others are written."""
    made = items(12)
    assert made[4].envelope is not None
    deadly = made[4].envelope.event_id
    store.rules.append(lambda rows: Answer(status=422) if deadly in {r["event_id"] for r in rows} else None)

    write(made, job_1={"unknowns": 3})

    assert [n for n, item in enumerate(made) if isinstance(item.outcome, Deferred)] == [4]
    assert sorted(len(request) for request in store.requests) == [1, 1, 1, 1, 8]


def test_what_never_has_an_outcome_is_dead_lettered(write: Write, store: FakeStore) -> None:
    """After a time in which the store accepted other rows, never after a count that an outage would use up."""
    made = items(3)

    write(made, job_1={"unknowns": 9, "spent": 86_400.0})

    assert outcomes(made) == ["Written", "Dead", "Written"]
    assert made[1].outcome == Dead(
        "gave_up", "its outcome stayed unknown for 24.0 h while the store took other rows; it may be written"
    )


def test_rows_refused_before_an_outage_are_not_the_cause(write: Write, store: FakeStore) -> None:
    """400 for all, then 503: the store may have refused these rows or everything, so none is dead-lettered."""
    made = items(64)
    answers = iter([Answer(status=400)] * 9)
    store.rules.append(lambda rows: next(answers, Answer(status=503, retry_after=30)))

    write(made)

    assert set(outcomes(made)) == {"Deferred"}


def test_a_refused_probe_does_not_delay_the_others(write: Write, store: FakeStore, redis: Redis) -> None:
    """After an outage the first row is too large; the next one is sent immediately."""
    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", mapping={"backoff_until": "0", "failures": "3"})
    store.rules.append(lambda rows: Answer(status=413))
    large, good = items(1), items(1)
    write(large)
    store.rules.clear()
    with ThreadPoolExecutor(1) as other:
        other.submit(write, good).result(40)

    assert (outcomes(large), outcomes(good)) == (["Dead"], ["Written"])


def test_more_bad_rows_than_the_budget_finds_pause_nothing(write: Write, store: FakeStore, redis: Redis) -> None:
    """The store accepts the others, so it stays open.

    Rows that were not tried again go back, and no good row is dead-lettered.
    """
    made = items(600)
    bad = {item.event_id for item in made[::10]}
    store.rules.append(lambda rows: Answer(status=400) if bad & {r["event_id"] for r in rows} else None)

    rounds = 0
    while left := [item for item in made if item.outcome is None or isinstance(item.outcome, Deferred)]:
        for item in left:
            item.outcome = None
        write(left)
        rounds += 1
        assert redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "paused") is None
        assert rounds < 30

    assert {item.event_id for item in made if isinstance(item.outcome, Dead)} == bad
    assert len(store.ids()) == len(set(store.ids())) == 540


@pytest.mark.parametrize(
    ("unknowns", "parts"),
    [(1, [12]), (2, [6, 6]), (3, [3] * 4), (4, [1] * 12), (5, [1] * 12), (1_000_000, [1] * 12)],
)
def test_the_size_of_the_parts(write: Write, store: FakeStore, unknowns: int, parts: list[int]) -> None:
    """Half as large each time, and never less than a row."""
    made = items(12)
    for item in made:
        item.job_id = "job-1"

    write(made, job_1={"unknowns": unknowns})

    assert [len(request) for request in store.requests] == parts
    assert store.ids() == [item.event_id for item in made]


@pytest.mark.parametrize(
    ("spent", "said"), [(86_399.9, None), (86_400.0, "24.0"), (3_600_000.0, "1000.0"), (90_000.0, "25.0")]
)
def test_when_a_job_is_dead_lettered(write: Write, spent: float, said: str | None) -> None:
    """After a day; the reason has the time."""
    made = items(1)

    write(made, job_0={"unknowns": 1, "spent": spent})

    expected = said and f"its outcome stayed unknown for {said} h while the store took other rows; it may be written"
    assert made[0].outcome == (Written() if expected is None else Dead("gave_up", expected))


def test_parts_are_requests_within_the_limits(store: FakeStore, limiter: RateLimiter) -> None:
    """A part that is larger than a request becomes several."""
    writer = Writer(store, sender_of(store, limiter, CLOCK), CLOCK, WriteLimits(5, 10**6))
    made = items(12)

    assert [len(part) for part in writer.parts(made, job("j", unknowns=1))] == [5, 5, 2]


CLOCK = Clock(time=lambda: NOW)


class Asks:
    """Records whether the store answered a verification."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []

    def failed(self, datasource: str, reason: str, again_in: float) -> None:
        self.noted.append((datasource, reason, again_in))

    def answered(self, datasource: str) -> None:
        self.noted.append((datasource,))


@pytest.mark.parametrize(
    ("error", "noted", "until"),
    [
        (None, ("llm_events",), None),
        (QueryError(500, "no"), ("llm_events", str(QueryError(500, "no")), 30.0), NOW + 30),
        (QuotaError(77.0), ("llm_events", str(QuotaError(77.0)), 77.0), NOW + 77),
    ],
)
def test_whether_the_store_answers_is_recorded(
    store: FakeStore,
    limiter: RateLimiter,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    noted: tuple[Any, ...],
    until: float | None,
) -> None:
    """With the reason, and the time of the next query; the rows' mark stays."""
    made, asks, steps = items(1), Asks(), list[int]()
    if error is not None:

        def fail(sql: str) -> Any:
            raise error

        monkeypatch.setattr(store, "query", fail)
    verification: Any = asks
    writer = Writer(
        store, sender_of(store, limiter, CLOCK), CLOCK, WriteLimits(9, 10**6), lambda: steps.append(1), verification
    )

    missing = list(writer.ask("llm_events", made, {"job-0": job("job-0", maybe_written_since=NOW - 60)}))

    assert missing == ([] if error else made)
    assert made[0].outcome == (Deferred(until, NOW - 60) if until else None)
    assert (asks.noted, steps) == ([noted], [1])


def test_many_rows_are_verified_in_parts(
    store: FakeStore, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a step of progress, as a query may take as long as a request; without a read token there is none."""
    monkeypatch.setattr("birdfeed_worker.pipeline.write.IDS_PER_QUERY", 2)
    steps = list[int]()
    writer = Writer(
        store, sender_of(store, limiter, CLOCK), CLOCK, WriteLimits(9, 10**6), lambda: steps.append(len(store.queries))
    )
    made = items(5)
    jobs = {item.job_id: job(item.job_id) for item in made}

    assert list(writer.ask("llm_events", made, jobs)) == made
    assert len(steps) == 3
    asked = len(store.queries)
    store.readable = False
    assert list(writer.ask("llm_events", made, jobs)) == made
    assert (len(steps), len(store.queries)) == (3, asked)


def test_rows_go_with_their_reservation(store: FakeStore, limiter: RateLimiter) -> None:
    """The mark is made for the execution that has them; its exception is raised in the delivery."""
    marked: list[tuple[str, list[str]]] = []

    def mark(execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        marked.append((execution, list(job_ids)))
        if len(marked) > 1:
            raise RedisConnectionError("gone")
        return frozenset()

    writer = Writer(store, sender_of(store, limiter, CLOCK, mark), CLOCK, WriteLimits(9, 10**6))
    jobs = {f"job-{number}": job(f"job-{number}", execution="e7") for number in range(3)}
    with writer.delivery(jobs) as writing:
        writing.add("llm_events", items(2))
    with pytest.raises(RedisConnectionError), writer.delivery(jobs) as writing:
        writing.add("llm_events", items(1))
    with writer.delivery({}) as writing:
        writing.add("llm_events", [])

    assert marked == [("e7", ["job-0", "job-1"]), ("e7", ["job-0"])]
    assert len(store.requests) == 1


def test_taken_counts_its_arguments() -> None:
    """The fake answers as the store does."""
    assert taken([1, 2]) == Answer(status=200, successful=2, quarantined=0)
