"""The writer: what happens to each row after each answer."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from birdfeed_schemas.envelope import Header, encode_event
from birdfeed_schemas.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.cut import Cutter
from birdfeed_worker.decode import Item
from birdfeed_worker.errors import QuotaError
from birdfeed_worker.outcomes import Dead, Later, Written
from birdfeed_worker.pace import Limits, Pacer
from birdfeed_worker.retry import Answer
from birdfeed_worker.send import Sender
from birdfeed_worker.take import TakenJob
from birdfeed_worker.write import WriteLimits, Writer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.events import envelope, text
from tests.support.fake_store import FakeStore, taken

Write = Callable[..., None]
NOW = 1_800_000_000.0
JOB: dict[str, Any] = {
    "execution": "e1",
    "data": b"",
    "event_type": "text_generation",
    "events": 1,
    "size": 1,
    "attempts": 1,
    "first_taken": NOW,
}


def items(count: int, when: datetime | None = None, **header: Any) -> list[Item]:
    """Items that are valid and have rows."""
    made = []
    for number in range(count):
        event = envelope(text()) if when is None else envelope(text(), when=when)
        head = Header(batch_id="b", event_type="text_generation", count=count, **header)
        row = orjson.dumps({"event_id": event.event_id, "n": number})
        made.append(Item(f"job-{number % 3}", head, encode_event(event), event, row))
    return made


def outcomes(made: Sequence[Item]) -> list[str]:
    return [type(item.outcome).__name__ for item in made]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def marks() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
def write(redis: Redis, keys: Keys, store: FakeStore, marks: list[tuple[str, ...]]) -> Write:
    def mark(execution: str, job_ids: Sequence[str]) -> frozenset[str]:
        marks.append(tuple(job_ids))
        return frozenset({"job-of-somebody-else"})

    pacer = Pacer(redis, keys, "w1", Limits(1e6, 1e12, 1.0, 60.0, 50.0), draw=lambda: 0.5)
    clock = Clock(time=lambda: NOW)
    sender = Sender(store, pacer, clock, bisect_requests=64, settle_seconds=60.0, mark=mark)
    writer = Writer(store, sender, clock, WriteLimits(1000, 10**6))

    def write(made: Sequence[Item], **fields: dict[str, Any]) -> None:
        jobs = {
            job_id: TakenJob(id=job_id, **{**JOB, **fields.get(job_id.replace("-", "_"), {})})
            for job_id in {item.job_id for item in made}
        }
        with writer.delivery(jobs) as writing:
            writing.add("llm_events", made)

    return write


def test_rows_go_in_one_request(write: Write, store: FakeStore, marks: list[tuple[str, ...]]) -> None:
    """Nothing wrong: one POST, marked before, all written."""
    made = items(10)

    write(made)

    assert outcomes(made) == ["Written"] * 10
    assert len(store.requests) == 1
    assert marks == [("job-0", "job-1", "job-2")]


def test_one_bad_row_is_found_and_its_neighbours_are_written(write: Write, store: FakeStore) -> None:
    """400: halved until the bad row stands alone; about two requests for each halving."""
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
    """Both halves answer 400, yet two rows are to blame: the rest is written."""
    made = items(64)
    bad = {i.envelope.event_id for i in (made[3], made[60]) if i.envelope}
    store.rules.append(lambda rows: Answer(status=400) if bad & {r["event_id"] for r in rows} else None)

    write(made)

    assert [n for n, item in enumerate(made) if isinstance(item.outcome, Dead)] == [3, 60]
    assert outcomes(made).count("Written") == 62


def test_where_everything_is_refused_no_row_is_to_blame(write: Write, store: FakeStore, redis: Redis) -> None:
    """400 for every request: the destination pauses, nothing is dead, and the budget bounds the requests."""
    made = items(500)
    store.rules.append(lambda rows: Answer(status=400, detail="no"))

    write(made)

    assert outcomes(made) == ["Later"] * 500
    assert len(store.requests) <= 64
    assert redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "paused") == b"1"


def test_a_store_that_recovers_in_the_middle_condemns_nobody(write: Write, store: FakeStore) -> None:
    """Rows refused alone while everything was refused get another chance once the store takes rows again."""
    made = items(64)
    answers = iter([Answer(status=400)] * 9)
    store.rules.append(lambda rows: next(answers, None))

    write(made)

    assert outcomes(made) == ["Written"] * 64


def test_413_halves(write: Write, store: FakeStore) -> None:
    """Too large a body: smaller ones; a single row that is too large is dead."""
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
def test_nothing_written_waits_as_long_as_asked(write: Write, store: FakeStore, status: int) -> None:
    """429 and 503: back to wait, never less than Retry-After; no mark of an unknown outcome."""
    made = items(3)
    store.rules.append(lambda rows: Answer(status=status, retry_after=30))

    write(made)

    for item in made:
        assert isinstance(item.outcome, Later)
        assert NOW + 30 <= item.outcome.until <= NOW + 33.1
        assert item.outcome.posted is None


def test_a_closed_destination_is_not_asked_again(write: Write, store: FakeStore) -> None:
    """Once it said 503, the rest of the pool's rows wait without a request."""
    store.rules.append(lambda rows: Answer(status=503, retry_after=30))
    write(items(3))
    more = items(3)

    write(more)

    assert outcomes(more) == ["Later"] * 3
    assert len(store.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_misconfigured_pauses_and_parks(write: Write, store: FakeStore, redis: Redis, status: int) -> None:
    """The stream is neither burnt nor dead-lettered: it waits until somebody mends the settings."""
    made = items(3)
    store.rules.append(lambda rows: Answer(status=status, detail="who are you"))

    write(made)

    assert outcomes(made) == ["Later"] * 3
    destination = redis.hgetall("rq:birdfeed:birdfeed:destination:llm_events")
    assert (destination[b"paused"], destination[b"reason"]) == (b"1", f"HTTP {status}: who are you".encode())


@pytest.mark.parametrize("status", [0, 408, 422, 500, 502, 504, 202])
def test_an_unknown_outcome_is_asked_about_and_only_the_rest_is_sent(
    write: Write, store: FakeStore, redis: Redis, status: int
) -> None:
    """Half of the rows were written before the answer was lost: they are not sent again."""
    made = items(6)

    def half(rows: list[dict[str, Any]]) -> Answer:
        store.keep("llm_events", rows[::2])
        return Answer(status=status)

    store.rules.append(half)
    write(made)
    assert all(item.outcome == Later(NOW + 60, NOW) for item in made)

    store.rules.clear()
    redis.flushall()
    for item in made:
        item.outcome, item.verify = None, True
    write(made, **{f"job_{n}": {"posted": NOW - 60} for n in range(3)})

    assert [item.outcome for item in made] == [Written(before=n % 2 == 0) for n in range(6)]
    assert len(store.ids()) == len(set(store.ids())) == 6


def test_nobody_is_asked_before_the_settle_time(write: Write, store: FakeStore) -> None:
    """A write may still land: the question waits, and so does the resend."""
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"posted": NOW - 59.0}, job_1={"posted": NOW - 61.0})

    assert [item.outcome for item in made] == [Later(NOW + 1, NOW - 59), Written(), Written()]


def test_where_the_question_fails_nothing_is_sent(write: Write, store: FakeStore) -> None:
    """Not knowing is no reason to resend: the events wait, still marked."""
    store.refuse_queries = True
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"posted": NOW - 100})

    assert store.requests == []
    assert made[0].outcome == Later(NOW + 30, NOW - 100)


def test_without_a_read_token_identical_bytes_are_sent_again(
    write: Write, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody to ask: the very same bytes a few times, in case Tinybird recognises them."""
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
    """Tinybird says how many; the quarantine table says which and why. None is ever sent again by itself."""
    made = items(5)

    def set_aside(rows: list[dict[str, Any]]) -> Answer:
        store.quarantine["llm_events"] = {rows[1]["event_id"]: "not a number"}
        store.keep("llm_events", [row for n, row in enumerate(rows) if n != 1])
        return Answer(status=200, successful=4, quarantined=1)

    store.rules.append(set_aside)

    write(made)

    assert made[1].outcome == Dead("quarantined", "cost: not a number")
    assert outcomes(made).count("Written") == 4


def test_an_enqueue_tried_twice_is_written_once(write: Write, store: FakeStore) -> None:
    """The producer lost the answer and sent the batch again: what the first one wrote is counted once."""
    made = items(2, retried=True)
    assert made[0].envelope is not None
    store.keep("llm_events", [{"event_id": made[0].envelope.event_id}])
    for item in made:
        item.verify = True

    write(made)

    assert [item.outcome for item in made] == [Written(before=True, double=True), Written()]


def test_rows_of_jobs_that_somebody_else_has_are_not_sent(write: Write, store: FakeStore) -> None:
    """The mark before the POST is a fence too."""
    made = items(3)
    made[0].job_id = "job-of-somebody-else"

    write(made)

    assert made[0].outcome == Later()
    assert len(store.ids()) == 2


def test_a_job_that_keeps_failing_is_sent_in_ever_smaller_parts(write: Write, store: FakeStore) -> None:
    """A row that makes the store fail is alone in the end: its neighbours, and other jobs, are written."""
    made = items(12)
    assert made[4].envelope is not None
    deadly = made[4].envelope.event_id
    store.rules.append(lambda rows: Answer(status=422) if deadly in {r["event_id"] for r in rows} else None)

    write(made, job_1={"unknowns": 3})

    assert [n for n, item in enumerate(made) if isinstance(item.outcome, Later)] == [4]
    assert sorted(len(request) for request in store.requests) == [1, 1, 1, 1, 8]


def test_what_never_has_an_outcome_is_given_up(write: Write, store: FakeStore) -> None:
    """By the time that went by while the store took other rows, never by a count that an outage burns."""
    made = items(3)

    write(made, job_1={"unknowns": 9, "spent": 86_400.0})

    assert outcomes(made) == ["Written", "Dead", "Written"]
    assert made[1].outcome == Dead(
        "gave_up", "its outcome stayed unknown for 24.0 h while the store took other rows; it may be written"
    )


def cut(made: Sequence[Item], rows: int = 1000, size: int = 10**9) -> list[int]:
    """How many rows each request has; each item is in one of them."""
    cutter = Cutter(rows, size)
    parts = [*cutter.add(made[: len(made) // 2]), *cutter.add(made[len(made) // 2 :]), *cutter.rest()]
    assert sorted(item.event_id for part in parts for item in part) == sorted(item.event_id for item in made)
    assert list(cutter.rest()) == []
    for part in parts:
        assert (
            len({(item.envelope.occurred_at.year, item.envelope.occurred_at.month) for item in part if item.envelope})
            <= 12
        )
    return [len(part) for part in parts]


def test_requests_are_cut_by_rows_bytes_and_months() -> None:
    """No request passes a limit, and none touches more than 12 monthly partitions."""
    assert cut(items(10), rows=4) == [4, 4, 2]
    row = len(items(1)[0].row) + 1
    assert cut(items(7), size=3 * row) == [3, 3, 1]
    assert cut(items(3), size=1) == [1, 1, 1]
    months = [datetime(2024 + month // 12, month % 12 + 1, 3, tzinfo=UTC) for month in range(30)]
    assert cut([item for when in months for item in items(2, when)][::-1]) == [24, 24, 12]
    assert cut([item for when in months * 2 for item in items(1, when)]) == [24, 24, 12]
    assert cut([item for when in months for item in items(2, when)], rows=5) == [5] * 12


def test_requests_go_side_by_side(redis: Redis, keys: Keys, store: FakeStore) -> None:
    """As many as the limit says, and no more: each waits for the others to have come in."""
    together = threading.Barrier(3)
    pacer = Pacer(redis, keys, "w1", Limits(1e6, 1e12, 1.0, 60.0, 50.0))
    sender = Sender(
        store, pacer, Clock(), bisect_requests=64, settle_seconds=60.0, mark=lambda execution, ids: frozenset()
    )
    writer = Writer(store, sender, Clock(), WriteLimits(rows=2, bytes=10**6, at_once=3))
    made = items(12)

    def meet(rows: list[dict[str, Any]]) -> None:
        together.wait(30)

    store.rules.append(meet)
    with writer.delivery({job: TakenJob(id=job, **JOB) for job in ("job-0", "job-1", "job-2")}) as writing:
        for item in made:
            writing.add("llm_events", [item])

    assert outcomes(made) == ["Written"] * 12
    assert sorted(map(len, store.requests)) == [2] * 6


def test_nothing_is_under_way_after_a_failure(store: FakeStore, redis: Redis, keys: Keys) -> None:
    """Redis fails under one request: the others come to their end before the jobs are given back."""
    release, ended = threading.Event(), threading.Event()

    def mark(execution: str, ids: Sequence[str]) -> frozenset[str]:
        if "job-0" in ids:
            release.set()
            raise RedisConnectionError("gone")
        return frozenset()

    def slow(rows: list[dict[str, Any]]) -> None:
        assert release.wait(30)
        ended.set()

    store.rules.append(slow)
    pacer = Pacer(redis, keys, "w1", Limits(1e6, 1e12, 1.0, 60.0, 50.0))
    sender = Sender(store, pacer, Clock(), bisect_requests=64, settle_seconds=60.0, mark=mark)
    writer = Writer(store, sender, Clock(), WriteLimits(rows=1, bytes=10**6, at_once=3))
    made = items(3)[::-1]

    jobs = {job: TakenJob(id=job, **JOB) for job in ("job-0", "job-1", "job-2")}
    with pytest.raises(RedisConnectionError), writer.delivery(jobs) as writing:
        writing.add("llm_events", made)

    assert ended.is_set()
    assert made[0].outcome == Written()
    assert made[-1].outcome is None


@pytest.fixture
def pacer(redis: Redis, keys: Keys) -> Pacer:
    return Pacer(redis, keys, "w1", Limits(1e6, 1e12, 1.0, 60.0, 50.0), draw=lambda: 0.5)


def test_rows_refused_before_an_outage_are_not_to_blame(write: Write, store: FakeStore) -> None:
    """400 for all, then 503: whether the store refused these rows or everything is not known, so nobody dies."""
    made = items(64)
    answers = iter([Answer(status=400)] * 9)
    store.rules.append(lambda rows: next(answers, Answer(status=503, retry_after=30)))

    write(made)

    assert set(outcomes(made)) == {"Later"}


def test_an_answer_from_before_does_not_open_what_was_closed_since(pacer: Pacer) -> None:
    """Two requests under way: one is told to wait 30 s, the other's 200 comes after that."""
    early = pacer.admit("llm_events", 1)
    pacer.closed("llm_events", 30.0, "HTTP 429")
    pacer.opened("llm_events", early)

    assert pacer.admit("llm_events", 1).wait > 29


def test_a_probe_that_finds_out_nothing_lets_another_one_ask(pacer: Pacer, redis: Redis) -> None:
    """A single row that is refused says nothing of the store; others must not wait for a probe's whole time."""
    pacer.closed("llm_events", 0.0, "HTTP 503")
    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", "closed_until", "0")
    assert pacer.admit("llm_events", 1).probe
    with ThreadPoolExecutor(1) as other:
        assert other.submit(pacer.admit, "llm_events", 1).result().wait > 0
        pacer.over("llm_events")
        assert other.submit(pacer.admit, "llm_events", 1).result().wait == 0


def test_a_refused_probe_does_not_hold_the_others_up(write: Write, store: FakeStore, redis: Redis) -> None:
    """After an outage the first row is too large; the next one goes at once."""
    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", mapping={"closed_until": "0", "failures": "3"})
    store.rules.append(lambda rows: Answer(status=413))
    large, good = items(1), items(1)
    write(large)
    store.rules.clear()
    with ThreadPoolExecutor(1) as other:
        other.submit(write, good).result(40)

    assert (outcomes(large), outcomes(good)) == (["Dead"], ["Written"])


def test_the_pools_rates_hold_from_the_first_second_on(redis: Redis, keys: Keys) -> None:
    """Two workers after a pause, as fast as they can: never more than the rates, in requests and in bytes."""
    pacers = [Pacer(redis, keys, name, Limits(50, 1_000_000, 1.0, 60.0, 50.0)) for name in ("w1", "w2")]
    for destination, size, rate in (("llm_events", 1, 50.0), ("image_events", 40_000, 25.0)):
        began, admitted = time.monotonic(), 0
        while time.monotonic() < began + 1.2:
            admitted += sum(pacer.admit(destination, size).wait == 0 for pacer in pacers)
        # One that is let through at once, and the bucket's twentieth of a second.
        assert admitted <= rate * (time.monotonic() - began + 0.05) + 1
        assert admitted > 1


def test_more_bad_rows_than_the_budget_finds_pause_nothing(write: Write, store: FakeStore, redis: Redis) -> None:
    """The store takes the others, so it is open; what was not tried again goes back, and nobody good dies."""
    made = items(600)
    bad = {item.event_id for item in made[::10]}
    store.rules.append(lambda rows: Answer(status=400) if bad & {r["event_id"] for r in rows} else None)

    rounds = 0
    while left := [item for item in made if item.outcome is None or isinstance(item.outcome, Later)]:
        for item in left:
            item.outcome = None
        write(left)
        rounds += 1
        assert redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "paused") is None
        assert rounds < 30

    assert {item.event_id for item in made if isinstance(item.outcome, Dead)} == bad
    assert len(store.ids()) == len(set(store.ids())) == 540


def test_where_the_read_quota_is_used_up_events_wait(
    write: Write, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the plan says, and nothing is sent blindly."""

    def used_up(sql: str) -> list[dict[str, Any]]:
        raise QuotaError(3600)

    monkeypatch.setattr(store, "query", used_up)
    made = items(3)
    for item in made:
        item.verify = True

    write(made, job_0={"posted": NOW - 100})

    assert store.requests == []
    assert [item.outcome for item in made] == [Later(NOW + 3600, NOW - 100), Later(NOW + 3600), Later(NOW + 3600)]


def test_stopped_in_the_middle_of_asking(store: FakeStore, pacer: Pacer) -> None:
    """Told to stop: what was not asked about yet waits, marked as it was, and nothing more is asked."""
    clock = Clock(time=lambda: NOW)
    clock.stop.set()
    sender = Sender(
        store, pacer, clock, bisect_requests=64, settle_seconds=60.0, mark=lambda execution, ids: frozenset()
    )
    steps: list[int] = []
    writer = Writer(store, sender, clock, WriteLimits(1000, 10**6), lambda: steps.append(1))
    made = items(3)
    for item in made:
        item.verify = True

    with writer.delivery({f"job-{n}": TakenJob(id=f"job-{n}", **JOB, posted=NOW - 100) for n in range(3)}) as writing:
        writing.add("llm_events", made)

    assert [item.outcome for item in made] == [Later(NOW, NOW - 100)] * 3
    assert steps == [1]


def test_taken_counts_what_it_is_given() -> None:
    """The fake answers as the store does."""
    assert taken([1, 2]) == Answer(status=200, successful=2, quarantined=0)
