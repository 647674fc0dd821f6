"""docs/how-to/runbook.md, the sections about the verdict's other findings; see test_runbook.py."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.support.events import enqueue, envelope, text
from tests.support.runbook import all_once, commands_of, follow, named, numbered, says, settled, status
from tests.support.servers.system import System
from tests.support.wait import eventually


def numbered_from(start: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    return [("text_generation", text(request_id=f"r{number}")) for number in range(start, start + count)]


def test_one_hosts_token_is_refused(working: System, tmp_path: Path) -> None:
    """A second host has the old token.

    It is named, the other host delivers its jobs, and a new token needs no restart.
    """
    title = "One host's token is refused"
    token = tmp_path / "token"
    token.write_text("p.the-token-before-the-rotation")
    other = System(working.environment["BIRDFEED_REDIS_URL"], working.sandbox, tmp_path, TINYBIRD_TOKEN_FILE=str(token))
    del other.environment["TINYBIRD_TOKEN"]
    with other:
        other.start_pool(1)
        named = says(title, "llm_events refuses the token of")
        sent = 0

        def seen() -> bool:
            nonlocal sent
            working.send(numbered_from(sent, 5))
            sent += 5
            return named in status(working)

        eventually(seen, what="status names it")
        assert "1 of 2 workers" in status(working)
        assert "accepts this worker's token" not in other.said()
        eventually(lambda: len(working.rows()) == sent, what="all is written all the same")

        token.write_text(working.sandbox.append_token)

        eventually(lambda: "accepts this worker's token again" in other.said(), what="it goes on", within=90)
        follow(working, commands_of(title))
        all_once(working, sent)


def test_verification_is_not_possible(working: System) -> None:
    """The outcome of a request is unknown, and Tinybird refuses the query."""
    title = "Verification is impossible"
    working.sandbox.fault(on="events", status=500, times=1)
    working.sandbox.fault(on="reads", status=403)
    working.send(numbered(20))
    named(working, says(title, "has not been able to ask llm_events which rows it has"))
    assert "more workers" not in status(working)

    working.sandbox.clear_faults()

    follow(working, commands_of(title))
    all_once(working, 20)


def test_events_keep_being_dead_lettered(working: System) -> None:
    """Three in ten, which is too few for the circuit breaker."""
    title = "Events keep dying"
    working.send([*numbered(70), *[("text_generation", {"request_id": f"bad{n}"}) for n in range(30)]])
    settled(working)
    named(working, says(title, "of the events of the last 15 minutes became dead letters"))
    assert "30.0% of" in status(working)

    follow(working, commands_of(title))
    all_once(working, 70)


def test_events_are_late(working: System) -> None:
    """The queue was suspended by rq; the jobs' ids give their age."""
    title = "Events are late"
    working.redis.set("rq:suspended", 1)
    old = [
        envelope(text(request_id=f"r{number}"), when=datetime.now(UTC) - timedelta(minutes=10)) for number in range(3)
    ]
    working.redis.hincrby(working.keys.ledger, "accepted:text_generation", 3)
    job_id = enqueue(working.redis, working.keys, old)
    # A job's age is part of its id.
    moment = int((time.time() - 600) * 1_000)
    aged = str(UUID(int=(moment << 80) | (7 << 76) | (2 << 62) | 1))
    working.redis.rename(working.keys.job(job_id), working.keys.job(aged))
    working.redis.lset(working.keys.queue_list, 0, aged)
    named(working, says(title, "the oldest event has waited for 10 minutes: start more workers?"))

    working.redis.delete("rq:suspended")

    follow(working, commands_of(title))
    all_once(working, 3)


def test_events_wait_in_a_spool(working: System) -> None:
    """A producer of this host spooled events and exited; the test writes its last heartbeat."""
    title = "Events wait in a spool"
    host, name = socket.gethostname(), "p1"
    beat: dict[Any, Any] = {
        "host": host,
        "pid": 1,
        "spooled_events": 7,
        "spooled_bytes": 70,
        "spooled_oldest_seconds": 1,
    }
    working.redis.hset(working.keys.producer(name), mapping=beat)
    working.redis.zadd(working.keys.producers, {name: time.time()})
    eventually(lambda: working.redis.exists(working.keys.birdfeed("spools")), what="workers remember it", within=60)
    working.redis.delete(working.keys.producer(name))
    assert says(title, "where no producer is running") in status(working)

    follow(working, commands_of(title))


def test_producers_drop_events(working: System) -> None:
    """As a producer reports it once Redis is back."""
    title = "Producers drop events"
    for field in ("accepted:text_generation", "dropped:text_generation:spool_full"):
        working.redis.hincrby(working.keys.ledger, field, 1_921)
    said = "producers dropped 1,921 events in the last hour: spool_full 1,9"
    assert says(title, said)
    named(working, "events in the last hour: spool_full 1,921")

    follow(working, commands_of(title))


def test_rows_without_a_price(working: System) -> None:
    """A model that no price book has."""
    title = "Rows without a price"
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    working.send(numbered(120, model="nobody-sells-this", model_used="nobody-sells-this", usage=usage))
    settled(working)
    named(working, says(title, "of the last hour's rows have no full price"))

    follow(working, commands_of(title))
    all_once(working, 120)


def test_redis_is_full(working: System) -> None:
    """The limit is set to the memory in use; then it is raised, as the section says."""
    title = "Redis is full"
    used = working.redis.info("memory")["used_memory"]
    try:
        working.redis.config_set("maxmemory", int(used / 0.85))
        named(working, "Redis uses 8")
        working.redis.config_set("maxmemory", int(used * 0.9))
        named(working, says(title, "Redis is full"))
    finally:
        working.redis.config_set("maxmemory", 0)

    follow(working, commands_of(title))


def test_a_key_holds_something_else(working: System) -> None:
    """The queue's key has a string; events sent meanwhile wait in the producer's spool."""
    title = "A key holds something else"
    working.redis.set(working.keys.queue_list, "text")
    seen = working.run("status")
    assert says(title, "holds a text, not a list") in " ".join((seen.stdout + seen.stderr).split())
    assert seen.returncode == 3

    working.redis.rename(working.keys.queue_list, "elsewhere")
    working.send(numbered(5))
    follow(working, commands_of(title))
    all_once(working, 5)


def test_redis_can_lose_events(working: System) -> None:
    """Redis is configured as a cache."""
    title = "Redis can lose events"
    try:
        working.redis.config_set("appendonly", "no")
        assert says(title, "Redis keeps no append-only file") in status(working)
    finally:
        working.redis.config_set("appendonly", "yes")

    follow(working, commands_of(title))


def test_the_doctor_agrees(working: System) -> None:
    """It follows an event to its row, and then shows the findings of `status`, with the section of the runbook."""
    well = working.run("doctor", "--send")
    assert "ok send: its row was stored after" in well.stdout
    assert (well.returncode, working.rows("model")) == (0, {"birdfeed-doctor": 1})

    tripped = {"reason": "invalid", "dead": 9, "seen": 9, "since": 1}
    working.redis.hset(working.keys.birdfeed("breaker"), "text_generation", json.dumps(tripped))
    try:
        ill = working.run("doctor")
    finally:
        working.redis.delete(working.keys.birdfeed("breaker"))

    assert "deferred by its circuit breaker" in ill.stdout
    assert (ill.returncode, '→ see "Runbook: A bad deploy" in the documentation' in ill.stdout) == (1, True)
