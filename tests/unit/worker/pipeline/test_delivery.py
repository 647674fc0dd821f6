"""A worker's pipeline, stage by stage, with a fake store and a fake Redis."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from birdfeed_schemas.wire.envelope import Header, split_batch
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker, tripped
from birdfeed_worker.flow.rate_limit import Limits, RateLimiter
from birdfeed_worker.model import POISON, Dead, Item, ReservedJob
from birdfeed_worker.monitoring.counters import Counters
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.pipeline.decode import CHUNK_EVENTS, chunks, decode
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.queue.codec import unpack
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.tiers.lookup import CachedTiers
from redis import Redis

from tests.support.events import enqueue, envelope, text
from tests.support.worker import odd_jobs
from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import job, sender_of

EVENTS = 4 * CHUNK_EVENTS


class Service:
    """Knows every user's tier immediately, but one user's only when told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.release = Event()

    def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
        self.asked.append(len(users))
        for user in sorted(users, key=lambda user: user == "user-1"):
            if user == "user-1":
                self.release.wait(30)
            yield user, "seed"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.release.set()


def deliver(redis: Redis, keys: Keys, store: FakeStore, tiers: CachedTiers, folder: Path) -> None:
    """Deliver all waiting jobs by one worker, in one reservation."""
    clock = Clock()
    settler = Settler(redis, keys, "w")

    def mark(execution: str, ids: Sequence[str]) -> frozenset[str]:
        return settler.mark(execution, ids)

    limiter = RateLimiter(redis, keys, "w", Limits(1e6, 1e12, 1.0, 60.0, 50.0))
    sender = sender_of(store, limiter, clock, mark)
    book = folder / "prices.toml"
    book.write_text("")
    delivery = Delivery(
        clock,
        Enricher(BookSource(book), tiers, extra_fields=frozenset(), keep_traceback=False),
        Writer(store, sender, clock, WriteLimits(rows=700, bytes=10**9, at_once=3)),
        settler,
        DeadLetterBreaker(redis, keys, clock, share=0.5, least=100),
        Counters(redis, keys, Meter(keys, "pool")),
    )
    delivery.deliver(Reserver(redis, keys, "w", 20).reserve(jobs=100, events=10**6, size=10**9))


def test_a_slow_user_delays_no_other(redis: Redis, keys: Keys, service: Service, tmp_path: Path) -> None:
    """A reservation is made into rows in parts, but all unknown users are looked up once, together."""
    for start in range(0, EVENTS, 100):
        enqueue(redis, keys, [envelope(text(user=f"user-{start + number}")) for number in range(100)])
    store = FakeStore()

    deliver(redis, keys, store, CachedTiers(service, budget=2.0), tmp_path)

    tiers = {row["user"]: row.get("tier", "unknown") for row in store.rows["llm_events"]}
    assert len(tiers) == EVENTS
    assert [who for who, tier in tiers.items() if tier == "unknown"] == ["user-1"]
    assert service.asked == [EVENTS]
    assert redis.llen(keys.queue_list) == redis.zcard(keys.started) == 0
    assert redis.hget(keys.ledger, "written:text_generation") == str(EVENTS).encode()


def test_requests_are_cut_across_the_parts_of_a_reservation(
    redis: Redis, keys: Keys, service: Service, tmp_path: Path
) -> None:
    """Requests are as full as the limits allow, independent of the parts; tiers in events are not looked up."""
    for _ in range(0, EVENTS, 100):
        enqueue(redis, keys, [envelope(text(tier="seed")) for _ in range(100)])
    store = FakeStore()

    deliver(redis, keys, store, CachedTiers(service, budget=5.0), tmp_path)

    assert sorted(map(len, store.requests)) == [600, 700, 700]
    assert service.asked == []


#: What handlers track for malformed requests that they refused.
MALFORMED: list[dict[str, Any]] = [
    {"status": "error"},
    {"model": None, "status": "error", "error": {"type": "client_error", "code": "400"}},
    {"model": "", "error": "no model was given"},
    {"model": 5, "stream": "(text)", "duration": -1, "status": "error"},
    {"modelRequested": 5, "userId": 1.5, "status": "error"},
]


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_requests_do_not_stop_telemetry(
    redis: Redis, keys: Keys, service: Service, tmp_path: Path, data: dict[str, Any]
) -> None:
    """Each is a row; a client that sends many must not trip the circuit breaker for all events."""
    enqueue(redis, keys, [envelope(data) for _ in range(150)])
    enqueue(redis, keys, [envelope(text(tier="seed")) for _ in range(50)])
    store = FakeStore()

    deliver(redis, keys, store, CachedTiers(service, budget=5.0), tmp_path)

    assert tripped(redis, keys) == {}
    rows = store.rows["llm_events"]
    assert Counter(row["model"] for row in rows) == {"unknown": 150, "openai": 50}
    refused = next(row for row in rows if row["model"] == "unknown")
    assert refused["status"] == "error"
    wrong = [value for name, value in data.items() if name not in ("status", "error") and value is not None]
    assert refused.get("dropped_fields", 0) == len(wrong)


@pytest.mark.parametrize("data", [{}, {"status": "success"}, {"model": 5}, {"model": None, "error": None}])
def test_a_success_needs_its_model(
    redis: Redis, keys: Keys, service: Service, tmp_path: Path, data: dict[str, Any]
) -> None:
    """Without an error, a missing model is a bug of the program, and the event is dead-lettered."""
    enqueue(redis, keys, [envelope(data) for _ in range(150)])

    deliver(redis, keys, FakeStore(), CachedTiers(service, budget=5.0), tmp_path)

    assert tripped(redis, keys)["text_generation"].reason == "invalid"


@pytest.mark.parametrize(
    ("name", "hint"), [("text_generaton", "; did you mean text_generation?"), ("audio_generation", "")]
)
def test_an_unknown_type_gets_the_nearest_known_one(name: str, hint: str) -> None:
    """In the dead letter's reason."""
    item = Item("j", Header(batch_id="j", event_type=name, count=1), b"{}")

    assert validate(name, [item]) == []
    assert item.outcome == Dead("unknown_event_type", f"no event type is named {name!r}{hint}")


#: Names of jobs, and the version of each.
JOBS = (("d", 1), ("n", 2), ("j", 1), ("g", 1))


def packed_job(job_id: str, *lines: str, **header: Any) -> ReservedJob:
    """A job of these lines; `header` replaces fields of its header."""
    return job(job_id, data=odd_jobs.packed(odd_jobs.header(**header), *lines))


def test_each_job_is_decoded_by_itself() -> None:
    """With any fault of those before it: a poison event, a newer version, an unreadable job."""
    deadly, newer, junk, good = (packed_job(name, odd_jobs.line(), version=version) for name, version in JOBS)
    junk = replace(junk, data=b"junk")
    jobs = [deadly, newer, junk, good, replace(newer, id="n2"), replace(junk, id="j2"), replace(deadly, id="d2"), good]

    decoded = decode(jobs, frozenset({("d", None), ("d2", None)}))

    assert [(one.job.id, one.reason) for one in decoded.unreadable] == [
        ("d", POISON.reason),
        ("j", "undecodable"),
        ("j2", "undecodable"),
        ("d2", POISON.reason),
    ]
    assert decoded.unreadable[0].detail == POISON.detail
    assert "can't be unpacked" in decoded.unreadable[1].detail
    assert [(one.id, version) for one, version in decoded.newer] == [("n", 2), ("n2", 2)]
    assert [item.job_id for item in decoded.items] == ["g", "g"]


@pytest.mark.parametrize("extra", [None, frozenset[str]()], ids=["as they came", "typed"])
def test_one_line_affects_no_other(extra: frozenset[str] | None) -> None:
    """An unreadable line and a poison event with two good lines.

    The same line number of another job is not affected.
    """
    one = packed_job("a", odd_jobs.line(), "{", odd_jobs.line(), odd_jobs.line())
    other = packed_job("b", odd_jobs.line(), "{", odd_jobs.line(), odd_jobs.line())

    items = decode([one, other], frozenset({("a", 2), ("b", 0)}), extra).items

    outcomes = [item.outcome.reason if isinstance(item.outcome, Dead) else "" for item in items]
    dead, bad = POISON.reason, "undecodable"
    assert outcomes == ["", bad, dead, "", dead, bad, "", ""]
    assert [item.envelope is None for item in items] == [bool(reason) for reason in outcomes]
    assert [item.event is not None for item in items] == [extra is not None and not reason for reason in outcomes]
    assert [item.line for item in items] == [
        line for job in (one, other) for line in split_batch(unpack(job.data)).lines
    ]


@pytest.mark.parametrize(
    ("fields", "header", "expected"),
    [
        ({}, {}, False),
        ({"maybe_written_since": 0.0}, {}, True),
        ({}, {"retried": True}, True),
        ({}, {"replay_id": "r"}, True),
        ({}, {"reason": "invalid"}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("extra", [None, frozenset[str]()], ids=["as they came", "typed"])
@pytest.mark.parametrize("lines", [("",), ("", "{")], ids=["good", "one is bad"])
def test_which_events_are_verified(
    fields: dict[str, Any],
    header: dict[str, Any],
    expected: bool,
    extra: frozenset[str] | None,
    lines: tuple[str, ...],
) -> None:
    """Those that the store may have: sent before, enqueued twice, or dead-lettered before."""
    one = replace(packed_job("a", *(line or odd_jobs.line() for line in lines), **header), **fields)

    items = decode([one], extra=extra).items

    assert [item.verify for item in items] == [expected] * len(lines)
    assert [item.verify for item in decode([one], frozenset({("a", 0)}), extra).items] == [expected] * len(lines)


def test_how_many_events_are_decoded_at_a_time() -> None:
    """By the numbers in their producers' fields."""
    jobs = [job(str(events), events=events) for events in (CHUNK_EVENTS, 1, CHUNK_EVENTS - 1, 1, CHUNK_EVENTS + 1)]

    assert [[one.events for one in part] for part in chunks(jobs)] == [
        [CHUNK_EVENTS],
        [1, CHUNK_EVENTS - 1],
        [1],
        [CHUNK_EVENTS + 1],
    ]
