"""A Redis as commit 7167a8d left it: queued, deferred, in flight in a killed worker, dead; the present workers process
it.

tests/data/redis_of_7167a8d.json holds every key, its bytes in base64, recorded from that commit's own processes.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox
from redis import Redis

from tests.support.producer.apps.run import Server
from tests.support.repository import DATA
from tests.support.servers.system import System
from tests.support.wait import eventually

WRITTEN = {"llm_events": 4 + 3 + 6, "image_events": 2 + 3}


def restore(redis: Redis, recorded: Path) -> None:
    """Write the recorded keys."""
    for name, key in json.loads(recorded.read_text()).items():
        value = key["value"]
        if key["type"] == "string":
            redis.set(name, b64decode(value))
        elif key["type"] == "hash":
            redis.hset(name, mapping={b64decode(field): b64decode(text) for field, text in value})
        elif key["type"] == "list":
            redis.rpush(name, *map(b64decode, value))
        elif key["type"] == "set":
            redis.sadd(name, *map(b64decode, value))
        else:
            redis.zadd(name, {b64decode(member): score for member, score in value})


@pytest.fixture
def system(sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """A system with that Redis, an empty store, and no worker yet."""
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        restore(system.redis, DATA / "redis_of_7167a8d.json")
        yield system


def rows(system: System, table: str) -> list[str]:
    """The request ids in the table."""
    return sorted(row["request_id"] for row in system.sandbox.sql(f"SELECT request_id FROM {table} FINAL"))


def test_jobs_of_an_older_release_are_delivered(system: System) -> None:
    """Every job that waited, was deferred or was in flight is written once; the ledger balances."""
    system.start_pool()

    eventually(
        lambda: {table: len(rows(system, table)) for table in WRITTEN} == WRITTEN,
        within=60,
        what="the older jobs are written",
    )

    assert rows(system, "llm_events") == sorted(
        [f"deferred-{n}" for n in range(4)] + [f"in-flight-{n}" for n in range(3)] + [f"queued-{n}" for n in range(6)]
    )
    eventually(lambda: json.loads(system.run("ledger", "--json").stdout)["balanced"], what="the ledger balances")


def test_dead_letters_of_an_older_release_are_listed_and_replayed(system: System) -> None:
    """By reason, with their events; replayed with the right model they become rows."""
    listed = {letter["reason"]: letter["events"] for letter in json.loads(system.run("dead", "list", "--json").stdout)}
    assert listed == {"invalid": 7, "unknown_event_type": 1}

    system.start_pool()
    replayed = system.run("dead", "replay", "--reason", "invalid", "--set", "model=gpt-4o-mini")

    assert replayed.returncode == 0, replayed.stderr
    eventually(
        lambda: {f"dead-{n}" for n in range(7)} <= set(rows(system, "llm_events")), within=60, what="they are written"
    )
