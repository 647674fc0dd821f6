"""The verdict: for each rule a state of Redis or a status with its finding, and one without it."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from birdfeed.stats import REASONS
from birdfeed_schemas.safety.redis_facts import RedisFacts
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import Trip
from birdfeed_worker.flow.destinations import Destination
from birdfeed_worker.flow.refusals import Refusal
from birdfeed_worker.flow.verification import Unanswered
from birdfeed_worker.monitoring.counters import Sampler
from birdfeed_worker.monitoring.facts import DeadReason, Health
from birdfeed_worker.monitoring.ledger import Account, Ledger
from birdfeed_worker.monitoring.minutes import DEAD_REASONS, DROP_REASONS, add_counts
from birdfeed_worker.monitoring.producers import HostSpool, read_producers, read_spools, remember_spools
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.monitoring.verdict import RULES, judged
from birdfeed_worker.queue.redis_time import redis_time
from redis import Redis

from docs.scripts.references import rules
from tests.support.repository import DOCS
from tests.support.worker.well import WELL, WORKER
from tests.unit.docs.test_docs import reasons


def minutes(*counts: dict[str, int]) -> dict[str, Any]:
    """An hour whose last minutes have these counts; `events` are dead-lettered."""
    return {
        "dead": {"invalid": DeadReason(events=1, oldest=None)},
        "minutes": [Counter[str]()] * (60 - len(counts)) + [Counter(one) for one in counts],
    }


def memory(used: int, most: int = 1_000_000_000) -> dict[str, Any]:
    return {"redis": RedisFacts(memory_used=used, memory_max=most)}


def spool(**fields: Any) -> dict[str, Any]:
    given = {"host": "web-1", "events": 1_921, "bytes": 5, "oldest": 130.0, "producers": 1, **fields}
    return {"spools": [HostSpool(**given)]}


REFUSAL = Refusal(worker="w9", host="host-9", datasource="llm_events", reason="HTTP 403: no", since=1.0)
PAUSED: dict[str, Any] = {"destinations": {"llm_events": Destination(state="paused", reason="HTTP 403: no")}}
#: For each rule a status with its finding, the finding's text, and a status that is just below it.
CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "no_worker": ({"workers": [replace(WORKER, silent=60.0)]}, "no worker is running", {}),
    "workers_restarting": (
        minutes({"worker_ends": 1}, {}, {"worker_ends": 4}),
        "workers keep exiting: 5 times in 10 minutes",
        minutes({"worker_ends": 9}, *[{}] * 9, {"worker_ends": 4}),
    ),
    "redis_full": (memory(985_000_000), "Redis is full (985 of 1,000 MB)", memory(10, most=0)),
    "redis_memory": (memory(800_000_000), "Redis uses 80% of its memory (800 of 1,000 MB)", memory(799_000_000)),
    "redis_can_lose_events": ({"redis": RedisFacts(append_only=False)}, "no append-only file", {}),
    "replicas_missing": ({"unreplicated": "0 of 1"}, "workers wait for replicas: 0 of 1", {}),
    "breaker_tripped": (
        {"tripped": {"t": Trip(reason="invalid", dead=90, seen=100, since=0.0)}},
        "t is deferred by its circuit breaker: 90 of 100 recent events failed with invalid",
        {},
    ),
    "breaker_off": (
        {"disabled": {"t": 1_800_000_000.0}},
        "the circuit breaker of t is turned off until 08:00 UTC",
        {},
    ),
    "destination_paused": (PAUSED, "llm_events refuses every request: HTTP 403: no", {}),
    "destination_backing_off": (
        {"destinations": {"d": Destination(state="backing_off", reason="HTTP 429")}},
        "d takes no rows at the moment: HTTP 429",
        {},
    ),
    "token_refused": (
        {"refusals": [REFUSAL], "workers": [WORKER, WORKER]},
        "llm_events refuses the token of host-9 (1 of 2 workers): HTTP 403: no",
        {},
    ),
    "verification_impossible": (
        {"unanswered": {"llm_events": Unanswered(host="h1", reason="HTTP 403", since=400.0)}, "lag": 900.0},
        "for 10 minutes, h1 has not been able to ask llm_events which rows it has: HTTP 403",
        {},
    ),
    "schema_drift": (
        {"mismatches": [f"llm_events.c{n} is missing" for n in range(40)]},
        "the data sources don't match: llm_events.c0 is missing; llm_events.c1 is missing; llm_events.c2 is missing; "
        "and 37 more (`birdfeed tinybird check` shows all)",
        {},
    ),
    "late": ({"lag": 301.0}, "waited for 5 minutes: start more workers?", {"lag": 299.0}),
    "events_dropped": (
        minutes(
            {"dropped:t:spool_full": 1_920, "dropped:t:forgotten": 9, "dropped:t:sampled": 9_000},
            {},
            {"dropped:other:closed": 1},
        ),
        "producers dropped 1,921 events in the last hour: closed 1, spool_full 1,920",
        {},
    ),
    "spool_waits": (spool(), "1,921 events wait in the spool of web-1, the oldest for 2 minutes", spool(oldest=119.0)),
    "spool_orphaned": (
        spool(producers=0, oldest=1.0),
        "where no producer is running: run `birdfeed spool drain` there",
        {},
    ),
    "dying_share": (
        minutes({"dead:t:invalid": 42, "written:t": 58}),
        "42.0% of the events of the last 15 minutes became dead letters (42 of 100)",
        minutes({"dead:t:invalid": 19}, *[{}] * 15, {"dead:t:invalid": 1, "written:t": 100}),
    ),
    "dead_growing": (
        minutes({"dead:t:a": 40}, *[{}] * 19, {"dead:t:a": 40}, *[{}] * 19, {"dead:t:b": 20, "written:t": 9_000}),
        "events keep failing: 100 dead in the last hour",
        minutes({"dead:t:a": 40}, *[{}] * 39, {"dead:t:b": 80, "written:t": 9_000}),
    ),
    "unpriced_share": (
        minutes({"cost:unpriced": 3, "cost:partial": 2, "cost:priced": 75, "cost:estimated": 20, "cost:no_usage": 900}),
        "5.0% of the last hour's rows have no full price",
        minutes({"cost:unpriced": 4, "cost:estimated": 96}),
    ),
    "ledger_missing": (
        {"ledger": Ledger(accounts={"t": Account(accepted=7), "u": Account(written=0)}, anomalies={})},
        "the ledger does not balance: 7 events are missing",
        {"ledger": Ledger(accounts={"t": Account(accepted=7)}, anomalies={}, consistent=False)},
    ),
    "ledger_excess": (
        {"ledger": Ledger(accounts={"t": Account(written=3)}, anomalies={})},
        "the ledger does not balance: 3 events more than were accepted",
        {},
    ),
}


def test_every_rule_has_a_case() -> None:
    """In the table's order."""
    assert list(CASES) == [rule.name for rule in RULES]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_has_only_its_own_finding(name: str) -> None:
    """One sentence, the rule's name, section and health; and nothing just below its limit."""
    change, said, not_enough = CASES[name]
    rule = next(one for one in RULES if one.name == name)

    status = judged(replace(WELL, **change))

    (finding,) = status.findings
    assert (finding.rule, status.health) == (rule, rule.health)
    assert said in finding.message
    assert status.problems == (finding.message,)
    assert judged(replace(WELL, **not_enough)).findings == ()


def test_a_healthy_status_has_no_finding() -> None:
    """No rule finds anything."""
    assert (judged(WELL).findings, judged(WELL).health) == ((), Health.HEALTHY)


def test_the_worst_finding_decides() -> None:
    """Down has priority over degraded, in any order."""
    status = judged(replace(WELL, workers=[], lag=301.0, unreplicated="0 of 1"))

    assert status.health is Health.DOWN
    assert {one.rule.name for one in status.findings} == {"no_worker", "replicas_missing"}


def test_one_fault_has_one_finding() -> None:
    """Late events are explained by any other finding; a token that is refused on all hosts is not one host's."""
    for change in (PAUSED, {"unanswered": CASES["verification_impossible"][0]["unanswered"]}):
        assert len(judged(replace(WELL, lag=9_999.0, **change)).findings) == 1
    assert [one.rule.name for one in judged(replace(WELL, refusals=[REFUSAL], **PAUSED)).findings] == [
        "destination_paused"
    ]
    dying = minutes(*[{"dead:t:a": 40, "written:t": 1}] * 60)
    assert [one.rule.name for one in judged(replace(WELL, **dying)).findings] == ["dying_share"]
    assert judged(replace(WELL, **{**dying, "dead": {}})).findings == (), "all are replayed or purged"


def test_every_rule_is_in_the_runbook() -> None:
    """With a section; the table is generated from the rules."""
    runbook = (DOCS / "how-to" / "runbook.md").read_text()

    assert rules() in runbook
    sections = set(re.findall(r"^## (.+)$", runbook, re.MULTILINE))
    assert {rule.section for rule in RULES} - sections == set()


def test_the_counted_reasons_are_those_in_the_code() -> None:
    """In the workers' code and in the producer's."""
    assert reasons() == DEAD_REASONS
    assert set(REASONS) == DROP_REASONS


# Findings from what is in Redis.


def beat(redis: Redis, keys: Keys, host: str, number: int = 1, **fields: Any) -> None:
    """A producer's heartbeat, as a producer writes it."""
    name = f"{host}:{number}:x"
    told: dict[str, Any] = {
        "beat_at": 1,
        "host": host,
        "pid": number,
        "version": "0.1.0",
        "buffered": 3,
        "spooled_events": 0,
    }
    told |= {"spooled_bytes": 0, "spooled_oldest_seconds": 0.0, "enqueued": 9, "dropped": json.dumps({"closed": 2})}
    redis.hset(keys.producer(name), mapping=told | fields)
    redis.zadd(keys.producers, {name: redis_time(redis)})


@pytest.fixture
def found(redis: Redis, keys: Keys) -> Callable[[], set[str]]:
    """The rules with findings now, except that about workers, as unit tests have none."""
    return lambda: {one.rule.name for one in read_status(redis, keys, redis_time(redis)).findings} - {"no_worker"}


def test_spools_of_running_and_of_lost_producers(redis: Redis, keys: Keys, found: Callable[[], set[str]]) -> None:
    """The last state of a host's spool is kept after its producers exit, until the spool is drained."""
    spooled = {"spooled_events": 1_921, "spooled_bytes": 99, "spooled_oldest_seconds": 300.0}
    beat(redis, keys, "web-1", 1, **spooled)
    beat(redis, keys, "web-1", 2)
    beat(redis, keys, "web-2", 1)
    now = redis_time(redis)
    remember_spools(redis, keys, now)
    producers = read_producers(redis, keys)
    assert [(one.host, one.pid, one.spooled_events, one.dropped) for one in producers] == [
        ("web-1", 1, 1_921, {"closed": 2}),
        ("web-1", 2, 0, {"closed": 2}),
        ("web-2", 1, 0, {"closed": 2}),
    ]
    assert found() == {"spool_waits"}

    redis.delete(*[keys.producer(f"web-1:{number}:x") for number in (1, 2)])
    (left,) = read_spools(redis, keys, read_producers(redis, keys), now + 60)
    assert (left.host, left.events, left.producers, round(left.oldest)) == ("web-1", 1_921, 0, 360)
    assert found() == {"spool_orphaned"}

    beat(redis, keys, "web-1", 3)
    remember_spools(redis, keys, now)
    redis.delete(keys.producer("web-1:3:x"))
    assert found() == set()


def test_unreadable_heartbeats_are_ignored(redis: Redis, keys: Keys, found: Callable[[], set[str]]) -> None:
    """Whatever wrote them."""
    for number, junk in enumerate(({"pid": "x"}, {"dropped": "[1]"}, {"dropped": "{"}, {"spooled_events": "1.5"})):
        beat(redis, keys, "web-1", number, **junk)
    redis.hset(keys.birdfeed("spools"), mapping={"a": b"\xff", "b": "null", "c": "[1]", "d": '{"events":"x"}'})

    assert read_producers(redis, keys) == []
    assert found() == set()


def test_drops_are_counted_per_minute(redis: Redis, keys: Keys, found: Callable[[], set[str]]) -> None:
    """The ledger has the total; the samples show how many are recent."""
    redis.hset(keys.ledger, mapping={"accepted:text_generation": 5, "dropped:text_generation:spool_full": 5})
    Sampler(redis, keys, Clock()).step()
    assert found() == {"events_dropped"}

    redis.delete(*redis.keys("*:minute:*"))
    redis.delete(keys.birdfeed("sampler"))
    Sampler(redis, keys, Clock()).step()
    assert found() == set(), "what was counted is not counted again"


def test_workers_that_keep_exiting(redis: Redis, keys: Keys, found: Callable[[], set[str]]) -> None:
    """Counted by the launcher."""
    with redis.pipeline() as pipe:
        add_counts(pipe, keys, redis_time(redis), {"worker_ends": 5})
        pipe.execute()

    assert found() == {"workers_restarting"}


def test_a_redis_that_fills_up(redis: Redis, keys: Keys, found: Callable[[], set[str]]) -> None:
    """Reported from 80 % on, long before it is full; never without a limit."""
    assert found() == set(), "and the scripts, which take memory, are loaded before it is measured"
    used = redis.info("memory")["used_memory"]
    try:
        redis.config_set("maxmemory", int(used / 0.85))
        assert found() == {"redis_memory"}
        redis.config_set("maxmemory", int(used / 0.99))
        assert found() == {"redis_full"}
    finally:
        redis.config_set("maxmemory", 0)
    assert found() == set()
