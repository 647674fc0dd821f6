"""Events that kill the worker process: they are found and dead-lettered, all other events delivered."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.servers.system import System
from tests.support.wait import eventually
from tests.support.worker.killer_events import install


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        system.environment["PYTHONPATH"] += os.pathsep + str(install(tmp_path))
        yield system


def events(count: int, **poison: int) -> list[tuple[str, dict[str, Any]]]:
    made = [("killer", text(request_id=f"r{number}")) for number in range(count)]
    for model, number in poison.items():
        made[number][1]["model"] = model
    return made


@pytest.mark.parametrize("model", ["segfault", "killed", "exit"])
def test_an_event_that_kills_is_found_and_the_others_are_delivered(system: System, model: str) -> None:
    """However it kills: a native crash, the kernel's out-of-memory kill, an exit."""
    system.start_pool(1)
    system.send(events(60, **{model: 17}))

    system.drained(within=60)

    assert system.rows() == {f"r{number}": 1 for number in range(60) if number != 17}
    (letter,) = system.dead()
    assert (letter.reason, letter.events) == ("kills_worker", 1)
    assert system.dead_ids() == ["r17"]
    assert system.ledger() == {
        "accepted:killer": 60,
        "written:killer": 59,
        "dead:killer:kills_worker": 1,
    }


def test_an_event_that_makes_our_code_raise_is_dead_lettered_alone(system: System) -> None:
    """A bug in a row builder is not a crash: the worker continues, the dead letter has the error's type."""
    system.start_pool(1)
    (pid,) = system.workers().values()
    system.send(events(10, raises=3))

    system.drained()

    assert system.rows() == {f"r{number}": 1 for number in range(10) if number != 3}
    assert [(letter.reason, letter.detail) for letter in system.dead()] == [
        ("internal_error", "birdfeed's own code failed on this event: RuntimeError")
    ]
    assert list(system.workers().values()) == [pid]


def test_a_kill_from_outside_confirms_no_event(system: System) -> None:
    """kill -9 several times with the same jobs in flight: the suspects are tested, are not confirmed, and are
    delivered.
    """
    system.sandbox.fault(answer_delay_seconds=2.0)
    # Sent first: the jobs in flight could be settled before `send` exits.
    system.send(events(100))
    system.start_pool(1)
    for _ in range(4):
        eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
        before = system.kill_a_worker()
        eventually(lambda: set(system.workers().values()) - {before}, what="another worker is there")  # noqa: B023
    system.sandbox.clear_faults()

    system.drained(within=60)

    assert system.rows() == {f"r{number}": 1 for number in range(100)}
    assert system.dead() == []
