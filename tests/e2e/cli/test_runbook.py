"""docs/how-to/runbook.md, section by section.

A test causes the symptom, checks what the runbook says about it, fixes the cause, and then runs only the runbook's
commands until the ledger balances.
"""

import re
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.queue.reply import as_text
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.support.events import enqueue, envelope, text
from tests.support.producer.apps.run import Server
from tests.support.runbook import RUNBOOK, all_once, commands_of, follow, named, numbered, says, settled, status
from tests.support.servers.failover import followers
from tests.support.servers.system import System
from tests.support.wait import eventually
from tests.support.worker.killer_events import install

SIX_HOURS = 6 * 3_600.0


def test_no_worker_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """The pool was stopped while events came in."""
    title = "No worker runs"
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        system.send(numbered(20))
        seen = system.run("status")
        assert seen.returncode == 3
        assert says(title, "no worker is running") in seen.stdout
        assert says(title, "birdfeed is down") in " ".join(seen.stdout.split())

        system.start_pool(1)

        follow(system, commands_of(title))
        all_once(system, 20)


def test_tinybird_refuses_the_token(working: System) -> None:
    """403 for one data source; the other one continues."""
    title = "Tinybird refuses the token"
    working.sandbox.fault(auth=403, datasource="llm_events")
    working.send(numbered(20))
    working.send([("image_generation", {"model": "flux", "request_id": "i0"})])
    eventually(lambda: working.rows() == {"i0": 1}, what="the other data source goes on")
    named(working, says(title, "llm_events refuses every request: HTTP 403"))
    assert working.run("status").returncode == 1

    working.sandbox.clear_faults()

    follow(working, commands_of(title))
    assert working.rows() == {"i0": 1, **{f"r{number}": 1 for number in range(20)}}
    assert working.dead() == []


def test_tinybird_is_down_for_six_hours(working: System) -> None:
    """The clock is moved: everything that waits has waited for six hours. No event is dead-lettered."""
    title = "Tinybird is down"
    working.sandbox.fault(outage=True)
    working.send(numbered(50))
    eventually(lambda: working.redis.zcard(working.keys.scheduled), what="jobs wait")
    turn_the_clock(working, SIX_HOURS)
    working.send([("text_generation", text(request_id="r50"))])
    down = says(title, "llm_events takes no rows at the moment: HTTP 503")
    named(working, down)
    assert "6 h" in status(working)

    working.sandbox.clear_faults()

    follow(working, commands_of(title))
    all_once(working, 51)


def turn_the_clock(system: System, seconds: float) -> None:
    """Move every time that Redis knows of an outage into the past."""
    key = system.keys.birdfeed("destination:llm_events")
    for field in ("since", "last_success"):
        at = system.redis.hget(key, field)
        if at is not None:
            system.redis.hset(key, field, repr(float(at) - seconds))
    for name in system.redis.keys(system.keys.job("*")):
        for field in ("bf_first_taken", "bf_posted", "bf_unknown_at"):
            at = system.redis.hget(as_text(name), field)
            if at is not None:
                system.redis.hset(as_text(name), field, repr(float(at) - seconds))


@pytest.mark.parametrize("count", [30, 300])
def test_the_schema_has_changed(working: System, count: int) -> None:
    """A few rows are dead letters; many of them pause the event type."""
    title = "The schema has changed"
    working.sandbox.fault(quarantine_rows={"path": "$.model", "equals": "openai"})
    working.send(numbered(count))
    eventually(lambda: "quarantined" in status(working), what="status says so")
    settled_or_paused(working)
    if count >= 100:
        assert "deferred by its circuit breaker" in status(working)
        assert says(title, "failed with quarantined") in status(working)
        working.send([("text_generation", text(request_id=f"r{count}"))])
        eventually(lambda: working.redis.zcard(working.keys.scheduled), what="what comes now waits")

    working.sandbox.clear_faults()

    follow(working, commands_of(title))
    all_once(working, count + (count >= 100))


def settled_or_paused(system: System) -> None:
    eventually(
        lambda: system.waiting() == 0 or "deferred by its circuit breaker" in status(system),
        what="it is dead or paused",
        within=120,
    )


def test_a_bad_deploy(working: System) -> None:
    """Every event is invalid: they wait.

    Once the event type is resumed they are dead-lettered, and fixed by the replay.
    """
    title = "A bad deploy"
    # In one job: the circuit breaker looks at what is reserved together; in several jobs some would be dead-lettered.
    enqueue(working.redis, working.keys, [envelope(data) for _, data in numbered(300, model=4.1)])
    working.redis.hincrby(working.keys.ledger, "accepted:text_generation", 300)
    trips = "text_generation is deferred by its circuit breaker: 300 of 300 recent events failed with invalid"
    named(working, says(title, trips))
    assert working.dead() == []
    assert working.run("ledger").returncode == 0

    follow(working, commands_of(title))

    all_once(working, 300)
    assert working.sandbox.sql("SELECT DISTINCT model FROM llm_events") == [{"model": "openai"}]


def test_events_that_are_not_valid(working: System) -> None:
    """Exported, edited and imported, under their own ids."""
    title = "Events that are not valid"
    working.send([*numbered(9), ("text_generation", text(request_id="r9", model=4.1))])
    settled(working)
    assert "invalid" in status(working)
    assert says(title, "model: Input should be a valid string") in working.dead()[0].detail
    commands = commands_of(title)
    cut = next(number for number, command in enumerate(commands) if command[:2] == ["dead", "import"])
    for command in commands[:cut]:
        assert working.run(*command).returncode == 0
    file = working.folder / "dead.ndjson"

    file.write_text(file.read_text().replace('"model":4.1', '"model":"openai"'))

    follow(working, commands[cut:])
    all_once(working, 10)


def test_rows_that_tinybird_refuses(working: System) -> None:
    """One row that is answered with 400 each time; the other rows of its batch are written."""
    title = "Rows that Tinybird refuses"
    working.sandbox.fault(poison="unspeakable")
    working.send([*numbered(9), ("text_generation", text(request_id="r9", user="unspeakable"))])
    settled(working)
    assert "1 rejected" in status(working)
    assert len(working.rows()) == 9

    working.sandbox.clear_faults()

    follow(working, commands_of(title))
    all_once(working, 10)


def test_an_event_that_kills_workers(sandbox: Sandbox, tmp_path: Path) -> None:
    """Exported to a file, purged, and counted as purged."""
    title = "An event that kills workers"
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        system.environment["PYTHONPATH"] += f":{install(tmp_path)}"
        system.start_pool(1)
        made = [("killer", text(request_id=f"r{number}")) for number in range(10)]
        made[4][1]["model"] = "segfault"
        system.send(made)
        settled(system)
        assert "1 kills_worker" in status(system)

        follow(system, commands_of(title))

        assert system.rows() == {f"r{number}": 1 for number in range(10) if number != 4}
        assert '"request_id":"r4"' in (tmp_path / "poison.ndjson").read_text()
        assert system.ledger()["purged:killer"] == 1


def test_redis_was_restarted(sandbox: Sandbox, tmp_path: Path) -> None:
    """kill -9 with jobs queued and in flight; it restarts from its append-only file."""
    title = "Redis was restarted"
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        # Sent first: the jobs in flight could be settled before `send` exits.
        system.send(numbered(100))
        sandbox.fault(delay_seconds=1.5)
        system.start_pool(1)
        eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
        redis.kill()
        seen = system.run("status")
        assert seen.returncode == 3
        assert says(title, "doesn't answer") in seen.stderr
        redis.start()
        eventually(lambda: system.workers(), what="the workers are back")
        sandbox.clear_faults()

        follow(system, commands_of(title))
        all_once(system, 100)


def test_workers_wait_for_replicas(sandbox: Sandbox, tmp_path: Path) -> None:
    """The only replica is lost while jobs are queued, and comes back."""
    title = "Workers wait for replicas"
    servers = Server(tmp_path / "master"), Server(tmp_path / "replica")
    with (
        servers[0] as master,
        servers[1] as replica,
        replica.client() as client,
        System(master.url, sandbox, tmp_path, BIRDFEED_WAIT_REPLICAS="1") as system,
    ):
        client.replicaof("127.0.0.1", str(master.port))
        eventually(lambda: followers(master) == 1, what="the replica follows")
        system.send(numbered(20))
        replica.kill()
        system.start_pool(1)
        named(system, says(title, "workers wait for replicas: 0 of 1"))
        assert system.rows() == {}
        replica.start()
        client.replicaof("127.0.0.1", str(master.port))

        follow(system, commands_of(title))
        all_once(system, 20)


def test_the_ledger_does_not_balance(working: System) -> None:
    """A failed job was deleted in rq-dashboard."""
    title = "The ledger does not balance"
    working.send(numbered(3, model=4.1))
    settled(working)
    (letter,) = working.dead()
    Job.fetch(letter.id, connection=working.redis, serializer=JSONSerializer).delete()
    seen = working.run("ledger")
    assert seen.returncode == 1
    assert "another tool (rq, rq-dashboard) deleted failed jobs" in " ".join(seen.stdout.split())

    done = follow(working, commands_of(title))

    assert "3 missing events are now counted as purged" in done[0].stdout
    assert "write off" in done[1].stdout


def test_every_section_has_a_test() -> None:
    """Each section of the runbook, by its title."""
    sections = set(re.findall(r"^## (.*)$", RUNBOOK.read_text(), re.MULTILINE))
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_runbook*.py"))
    assert sections == set(re.findall(r'^    title = "(.*)"$', tests, re.MULTILINE))
    linked = set(re.findall(r"\[([A-Z][^\]]+)\]\(#", RUNBOOK.read_text()))
    assert linked == sections
