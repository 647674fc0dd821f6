"""docs/how-to/runbook.md: incidents of several hosts and processes; see test_runbook.py."""

import secrets
import signal
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.monitoring.minutes import add_counts
from birdfeed_worker.queue.redis_time import redis_time

from tests.support.events import text
from tests.support.producer.apps.run import Server
from tests.support.runbook import all_once, commands_of, follow, named, numbered, says, settled, status
from tests.support.servers.elsewhere import EVERYTHING, handler_elsewhere
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System
from tests.support.wait import eventually


@pytest.mark.slow
def test_a_spool_grows_on_another_host(working: System, tmp_path: Path) -> None:
    """Its Redis user may write a heartbeat, but not enqueue.

    Each host's status names it and shows that its spool grows.
    """
    title = "Events wait in a spool"
    spool = tmp_path / "web-9"
    with handler_elsewhere(working, spool, may_enqueue=False) as handler:
        handler.track(7)
        assert says(title, "no right to write")
        (file,) = spool.glob("**/*.sqlite3")
        with closing(sqlite3.connect(file, timeout=60)) as database, database:
            database.execute("UPDATE batches SET added = added - 300")
        named(working, says(title, "events wait in the spool of web-"))
        handler.track(5)
        eventually(lambda: "web-9: 12 events" in status(working), what="status shows that it grows")
        working.redis.execute_command(*EVERYTHING)

        eventually(lambda: working.rows().total() == 12, what="it drains by itself")
        eventually(lambda: "wait in the spool" not in status(working), what="its next heartbeat says so")
    follow(working, commands_of(title))
    all_once(working, 12)


@pytest.mark.slow
def test_an_outage_fills_redis(sandbox: Sandbox, tmp_path: Path) -> None:
    """Tinybird refuses everything until Redis is full; later events wait in the spool."""
    title = "Redis is full"
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        system.start_pool(1)
        system.drained()
        sandbox.fault(outage=True)
        system.redis.config_set("maxmemory-policy", "noeviction")
        system.redis.config_set("maxmemory", int(system.redis.info("memory")["used_memory"]) + 600_000)
        sent = 0

        def fills_up() -> bool:
            nonlocal sent
            done = system.send(
                ("text_generation", text(request_id=f"r{number}", user=secrets.token_hex(400)))
                for number in range(sent, sent + 1_000)
            )
            sent += 1_000
            return "they are kept in the spool" in done.stderr

        eventually(fills_up, what="Redis refuses events", within=120)
        named(system, says(title, "Redis is full"))

        sandbox.clear_faults()
        # As the section says; the workers would have emptied it without it, too.
        system.redis.config_set("maxmemory", 4_000_000_000)

        follow(system, commands_of(title))
        follow(system, commands_of("Events wait in a spool"))
        all_once(system, sent)


def test_dead_letters_keep_growing(working: System) -> None:
    """A few of many, during a whole hour.

    Too few for the share and for the circuit breaker. (The hour's counts are written by the test.)
    """
    title = "Events keep dying"
    working.send([*numbered(9), ("text_generation", {"request_id": "bad"})])
    settled(working)
    now = redis_time(working.redis)
    with working.redis.pipeline() as pipe:
        add_counts(pipe, working.keys, now, {"written:text_generation": 50_000})
        for minutes in (10, 30, 50):
            add_counts(pipe, working.keys, now - 60 * minutes, {"dead:text_generation:invalid": 50})
        pipe.execute()

    named(working, f"{says(title, 'events keep failing')}: 151 dead in the last hour")

    follow(working, commands_of(title))
    all_once(working, 9)
    assert "keep growing" not in status(working)


@pytest.mark.slow
def test_a_column_is_missing_while_workers_run(sandbox_process: Sandbox, tmp_path: Path) -> None:
    """Nothing fails, as Tinybird ignores fields without a column. The status names the column while it is missing."""
    title = "The schema has changed"
    shipped = (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text()
    column = "    `tier` LowCardinality(String) `json:$.tier` DEFAULT 'unknown',\n"
    assert column in shipped
    with (
        Sandbox() as sandbox,
        Server(tmp_path / "valkey") as redis,
        System(redis.url, sandbox, tmp_path, BIRDFEED_SCHEMA_CHECK_SECONDS="2") as system,
    ):
        system.start_pool(1)
        sandbox.replace_datasource("llm_events", shipped.replace(column, ""))
        system.send(numbered(5))

        said = says(title, "llm_events.tier is missing: $.tier would not be stored")
        named(system, said)

        sandbox.replace_datasource("llm_events", shipped)

        eventually(lambda: said not in status(system), what="the next look finds it again")
        follow(system, commands_of(title))


@pytest.mark.slow
def test_restarts_that_overlap(sandbox: Sandbox, tmp_path: Path) -> None:
    """New launchers start before the old ones have stopped, one of which is killed in flight: nothing is lost."""
    port = free_port()
    settings = {"BIRDFEED_METRICS_PORT": str(port)}
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path, **settings) as system:
        sandbox.fault(answer_delay_seconds=0.5)
        old = system.start_pool(1)
        sent = 0
        for signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            system.send(("text_generation", text(request_id=f"r{n}")) for n in range(sent, sent + 200))
            sent += 200
            new = system.start_pool(1)
            assert "birdfeed is healthy" in status(system)
            old.send_signal(signum)
            system.send(("text_generation", text(request_id=f"r{n}")) for n in range(sent, sent + 50))
            sent += 50
            assert old.wait(60) == (0 if signum == signal.SIGTERM else -signum)
            eventually(lambda: ready(port), what="the new launcher has the port")
            old = new
        sandbox.clear_faults()

        settled(system)
        all_once(system, sent)
        assert "no worker is running" not in status(system)
        assert "The ledger balances." in system.run("ledger").stdout


def ready(port: int) -> bool:
    """Whether a launcher answers on this port that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
