"""Refused tokens: one host's stops that host's workers; all hosts' pause the data source."""

from collections.abc import Callable

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.destinations import destinations
from birdfeed_worker.flow.refusals import Refusals, by_host, living_workers, refusals, refusals_key
from birdfeed_worker.model import Deferred, Written
from birdfeed_worker.pipeline.send import Sender
from birdfeed_worker.tinybird.decide import Answer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, items, limiter_of, outcomes, refusals_of, sender_of

REFUSED = Answer(status=403, detail="invalid authentication token")


class Host:
    """A worker on its own host with its own token; `now` is its clock."""

    def __init__(self, redis: Redis, keys: Keys, name: str) -> None:
        self.name = name
        self.now = NOW
        self.store = FakeStore()
        clock = Clock(time=lambda: self.now)
        limiter = limiter_of(redis, keys, name)
        self.refusals: Refusals = refusals_of(limiter, clock, name)
        self.sender: Sender = sender_of(self.store, limiter, clock, refusals=self.refusals)
        redis.sadd("rq:workers:birdfeed", f"rq:worker:{name}")
        redis.hset(f"rq:worker:{name}", "state", "idle")

    def send(self, datasource: str = "llm_events") -> list[str]:
        made = items(3)
        self.sender.send(datasource, made, "e1")
        if any(item.outcome == Deferred() for item in made):
            return ["handed back"]
        return sorted(set(outcomes(made)))


@pytest.fixture
def host(redis: Redis, keys: Keys) -> Callable[[str], Host]:
    return lambda name: Host(redis, keys, name)


def state(redis: Redis, keys: Keys) -> str:
    return destinations(redis, keys, NOW)["llm_events"].state


def test_one_hosts_token_stops_only_that_host(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """It gives its jobs back and reserves no others; the pool continues; the host is named."""
    good, bad = host("w1"), host("w2")
    bad.store.rules.append(lambda rows: REFUSED)

    assert bad.send() == ["handed back"]
    assert (bad.refusals.stopped(), good.refusals.stopped()) == (True, False)
    assert good.send() == ["Written"]
    assert state(redis, keys) == "available"
    assert bad.send() == ["handed back"]
    assert len(bad.store.requests) == 1, "nothing is sent with a token that is refused"
    (one,) = refusals(redis, keys)
    assert (one.worker, one.host, one.datasource, one.since) == ("w2", "host-of-w2", "llm_events", NOW)
    assert one.reason == "HTTP 403: invalid authentication token"
    assert list(by_host([one])) == [("llm_events", "host-of-w2")]


def test_it_tries_again_at_growing_waits(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """Up to a minute; each try may find a new token."""
    host("w1")
    bad = host("w2")
    bad.store.rules.append(lambda rows: REFUSED)
    waits = []
    for _ in range(9):
        bad.send()
        began = bad.now
        while bad.refusals.stopped():
            bad.now += 0.25
        waits.append(bad.now - began)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.75, 45.0)

    bad.store.rules.clear()

    assert bad.send() == ["Written"]
    assert not bad.refusals.stopped()
    assert refusals(redis, keys) == []


def test_a_token_that_is_good_again_is_found_without_a_job(
    redis: Redis, keys: Keys, host: Callable[[str], Host]
) -> None:
    """A fixed host recovers without a request for a job; until then it reserves none."""
    host("w1")
    bad = host("w2")
    answers = [False, False, None, True]
    asked: list[str] = []

    def probe(datasource: str) -> bool | None:
        asked.append(datasource)
        return answers.pop(0)

    bad.refusals.probe = probe
    bad.store.rules.append(lambda rows: REFUSED)
    bad.send()
    stopped = []
    for _ in range(4):
        bad.now += 61
        stopped.append(bad.refusals.stopped())

    assert (stopped, asked) == ([True, True, False, False], ["llm_events"] * 4)
    assert refusals(redis, keys) == []


def test_if_all_are_refused_the_data_source_pauses(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """Then no worker is stopped: the next one probes, and the other data source continues."""
    hosts = [host("w1"), host("w2")]
    for one in hosts:
        one.store.rules.append(lambda rows: REFUSED)

    assert hosts[0].send() == ["handed back"]
    assert hosts[1].send() == ["Deferred"]
    for one in hosts:
        one.now += 1.1
    assert [one.refusals.stopped() for one in hosts] == [False, False]
    assert state(redis, keys) == "paused"
    assert destinations(redis, keys, NOW)["llm_events"].reason == "HTTP 403: invalid authentication token"

    redis.delete(keys.birdfeed("destination:llm_events"))  # like `birdfeed resume`
    hosts[0].store.rules.clear()
    assert hosts[0].send() == ["Written"]
    assert refusals(redis, keys) == [], "what was everybody's is over for everybody"
    assert hosts[1].send() == ["handed back"]
    assert [one.worker for one in refusals(redis, keys)] == ["w2"], "whose token is still refused says so again"


def test_workers_that_have_exited_do_not_count(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """A host that was lost can't take the jobs, and isn't named."""
    gone, bad = host("w1"), host("w2")
    for one in (gone, bad):
        one.store.rules.append(lambda rows: REFUSED)
    gone.send()
    redis.delete("rq:worker:w1")

    assert living_workers(redis, keys) == {"w2"}
    assert bad.send() == ["Deferred"]
    assert [one.worker for one in refusals(redis, keys)] == ["w2"]


@pytest.mark.parametrize("status", [503, 500, 404, 429])
def test_an_answer_unrelated_to_the_token_changes_nothing(
    redis: Redis, keys: Keys, host: Callable[[str], Host], status: int
) -> None:
    """A gateway that is down doesn't check tokens."""
    host("w1")
    bad = host("w2")
    bad.store.rules.append(lambda rows: REFUSED)
    bad.send()
    bad.now += 10
    bad.store.rules[0] = lambda rows: Answer(status=status)

    bad.send()

    assert [one.worker for one in refusals(redis, keys)] == ["w2"]


def test_junk_among_the_entries_is_ignored(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """Whatever wrote it."""
    host("w1")
    redis.hset(
        refusals_key(keys),
        mapping={"llm_events w1": b"\xff", "a w1": "null", "b w1": "[1]", "c w1": '{"host":1}', "d w1": '{"since":[]}'},
    )

    assert refusals(redis, keys) == []


def test_without_redis_other_hosts_count_as_accepted(
    redis: Redis, keys: Keys, host: Callable[[str], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is not paused without knowledge, and the worker doesn't exit."""
    bad = host("w1")

    def away(*args: object, **named: object) -> None:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(bad.refusals.connection, "pipeline", away)
    monkeypatch.setattr(bad.refusals.connection, "hgetall", away)

    assert not bad.refusals.refused("llm_events", "HTTP 403")
    assert bad.refusals.stopped()
    monkeypatch.setattr(bad.refusals.connection, "hdel", away)
    bad.refusals.accepted("llm_events")
    assert not bad.refusals.stopped()


def test_a_token_is_accepted_without_a_successful_write(redis: Redis, keys: Keys, host: Callable[[str], Host]) -> None:
    """The token of a request that is refused because of its rows was accepted."""
    host("w1")
    bad = host("w2")
    bad.store.rules.append(lambda rows: REFUSED)
    bad.send()
    bad.now += 10
    bad.store.rules[0] = lambda rows: Answer(status=413) if len(rows) > 1 else None

    assert bad.send() == [Written.__name__]
    assert refusals(redis, keys) == []
