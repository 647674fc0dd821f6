"""What an operator watches: metrics, health, logs, rq's own tools."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System
from tests.support.wait import eventually
from tests.support.worker.dead import bury, events

SECRET = "a prompt that nobody may read in a log"


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    with System(valkey_url, sandbox, tmp_path, BIRDFEED_METRICS_PORT=str(free_port())) as system:
        system.redis.flushall()
        yield system


def get(system: System, path: str) -> tuple[int, str]:
    """A page of the launcher's; status 0 where nothing answers."""
    url = f"http://127.0.0.1:{system.environment['BIRDFEED_METRICS_PORT']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, HTTPException):
        return 0, ""


def test_a_pool_counts_what_its_workers_do(system: System) -> None:
    """The sums include a killed worker's counts; the pages answer only while the launcher runs."""
    pool = system.start_pool(2)
    bad = [("text_generation", text(request_id=f"b{number}", model=4.1, user=SECRET)) for number in range(5)]
    system.send([*[("text_generation", text(request_id=f"r{number}")) for number in range(50)], *bad])
    system.drained()
    # A worker counts after it has settled; if it is killed in between, its counts are lost.
    died = 'birdfeed_events_total{event_type="text_generation",outcome="dead"} 5.0'
    eventually(lambda: died in get(system, "/metrics")[1], what="the deaths are counted")
    written = 'birdfeed_events_total{event_type="text_generation",outcome="written"} 50.0'
    eventually(lambda: written in get(system, "/metrics")[1], what="the rows are counted")
    system.kill_a_worker()
    eventually(lambda: "birdfeed_worker_ends_total 1.0" in get(system, "/metrics")[1], what="the death is counted")
    eventually(lambda: "birdfeed_workers 2.0" in get(system, "/metrics")[1], what="its successor is there")

    text_of = get(system, "/metrics")[1]

    assert written in text_of
    assert died in text_of
    assert 'birdfeed_requests_total{datasource="llm_events",status="200"}' in text_of
    assert 'birdfeed_ledger_events{event_type="text_generation",reason="invalid",state="dead"} 5.0' in text_of
    assert 'birdfeed_rows_total{cost_status="priced"} 50.0' in text_of
    assert get(system, "/healthz")[0] == 200
    assert get(system, "/readyz")[0] == 200
    pool.send_signal(signal.SIGTERM)
    pool.wait(60)
    assert get(system, "/healthz")[0] == 0


def test_logs_carry_ids_and_no_data(system: System) -> None:
    """As JSON, one object a line; each dead letter by its id, its batches' and its events'."""
    system.start_pool(1)
    system.send([("text_generation", text(request_id="b", model=4.1, user=SECRET, prompt=SECRET))])
    system.drained()
    eventually(lambda: '"1 job: ' in system.said(), what="the last line of its work")

    lines = [json.loads(line) for line in system.said().splitlines()]

    (dead,) = [line for line in lines if "dead_letter" in line]
    (letter,) = system.dead()
    assert dead["dead_letter"] == letter.id
    assert letter.batch is not None
    assert dead["event_ids"] == [json.loads(line)["event_id"] for line in letter.batch.lines]
    assert (dead["reason"], len(dead["batch_ids"]), dead["level"]) == ("invalid", 1, "warning")
    (done,) = [line for line in lines if line["event"].startswith("1 job: ")]
    assert done["batch_ids"] == dead["batch_ids"]
    assert SECRET not in system.said()


def test_an_export_can_be_sent_as_new_events(system: System) -> None:
    """To another installation, for example: under new ids, with a message that says so."""
    system.start_pool(1)
    system.send([("text_generation", text(request_id=f"b{number}", model=4.1)) for number in range(3)])
    system.drained()
    lines = system.run("dead", "export").stdout.replace('"model":4.1', '"model":"openai"')

    sent = system.run("send", "-", text=lines)

    assert sent.returncode == 0
    assert "3 events read, 3 accepted" in sent.stdout
    assert sent.stderr.count("`send` sends it as a new event") == 1
    system.drained()
    assert system.rows() == {f"b{number}": 1 for number in range(3)}
    old = {json.loads(line)["event_id"] for line in lines.splitlines()}
    assert not old & set(system.rows("event_id"))
    assert system.run("ledger").returncode == 0


def test_workers_merge_small_dead_letters(system: System) -> None:
    """Dead letters of one event each and of one kind are soon merged into one, without a command."""
    bury(system.redis, system.keys, events(30), each=True)

    system.start_pool(2)

    eventually(lambda: [letter.events for letter in system.dead()] == [30], what="they are merged")
    assert system.run("ledger").returncode == 0


@pytest.mark.parametrize("serializer", [(), ("-S", "rq.serializers.JSONSerializer")])
def test_rqs_own_commands_work(system: System, serializer: tuple[str, ...]) -> None:
    """`rq info` shows queue, workers and dead letters; `rq requeue` brings them back, and the ledger balances.

    Also without the option that our jobs are JSON.
    """
    system.start_pool(1)
    system.sandbox.fault(quarantine_rows={"path": "$.model", "equals": "openai"})
    system.send([("text_generation", text(request_id=f"r{number}")) for number in range(7)])
    system.drained()
    (letter,) = system.dead()
    system.sandbox.clear_faults()

    def rq(*arguments: str) -> str:
        command = [sys.executable, "-m", "rq.cli", *arguments, "-u", system.environment["BIRDFEED_REDIS_URL"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "1 failed" in rq("info")
    rq("requeue", "--queue", "birdfeed", letter.id, *serializer)

    system.drained()
    assert system.rows() == {f"r{number}": 1 for number in range(7)}
    assert "0 failed" in rq("info")
    assert system.run("ledger").returncode == 0
