"""Delivery, end to end: real Redis, real worker processes, the sandbox Tinybird over HTTP."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.local.demo_events import demo_events
from birdfeed_sandbox.process import Sandbox
from rq.serializers import JSONSerializer

from tests.support.events import text
from tests.support.repository import ROOT
from tests.support.servers.processes import ended
from tests.support.servers.system import System
from tests.support.wait import eventually

PROCFILE = ROOT / "Procfile"


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """A system on the session's Valkey, empty."""
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        yield system


def numbered(count: int, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    return [("text_generation", text(request_id=f"r{number}", **fields)) for number in range(count)]


def test_honcho_start_delivers_ten_thousand_events(either_redis: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """With the shipped Procfile: every event once in the store, cost and tier as computed by hand."""
    (tmp_path / "birdfeed").write_text(f"#!{sys.executable}\nfrom birdfeed_cli.__main__ import main\nmain()\n")
    (tmp_path / "birdfeed").chmod(0o755)
    with System(either_redis, sandbox, tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}") as system:
        system.start_pool(2, ("-m", "honcho", "-f", str(PROCFILE), "-d", str(tmp_path), "start"))
        by_hand = [
            ("text_generation", text(request_id="by-hand-text", tier="seed")),
            (
                "image_generation",
                {"model": "qwen-image", "num_images": 2, "has_input_image": True, "request_id": "by-hand-image"},
            ),
        ]
        others = [
            (kind, {**data, "model": "openai", "status": "success", "duration": 5, "start_time": None})
            for kind, data in demo_events(9_998)
        ]

        sent = system.send([*by_hand, *others])

        assert sent.returncode == 0, sent.stderr
        assert "10,000 events read, 10,000 accepted" in sent.stdout
        system.drained()
        rows = system.rows()
        assert len(rows) == 10_000
        assert set(rows.values()) == {1}
        # 1000 * 0.10 / 1e6 + 500 * 0.40 / 1e6, and 2 * 0.03 for images with an input image.
        (one,) = sandbox.sql(
            "SELECT toString(cost) AS cost, tier, tier_source FROM llm_events WHERE request_id='by-hand-text'"
        )
        assert (Decimal(one["cost"]), one["tier"], one["tier_source"]) == (Decimal("0.0003"), "seed", "event")
        (one,) = sandbox.sql("SELECT toString(cost) AS cost, tier FROM image_events WHERE request_id='by-hand-image'")
        assert (Decimal(one["cost"]), one["tier"]) == (Decimal("0.06"), "anonymous")
        assert sum(count for name, count in system.ledger().items() if name.startswith("accepted")) == 10_000
        assert sum(count for name, count in system.ledger().items() if name.startswith("written")) == 10_000


def test_an_outage_loses_nothing(system: System) -> None:
    """503 for a while: everything waits in Redis and is written once when the store is back."""
    system.start_pool(2)
    system.sandbox.fault(outage=True)
    system.send(numbered(1_000))
    eventually(lambda: system.redis.zcard(system.keys.scheduled), what="a job waits")

    system.sandbox.clear_faults()

    system.drained()
    assert system.rows() == {f"r{number}": 1 for number in range(1_000)}
    assert system.dead() == []


def test_a_killed_worker_loses_nothing_and_its_jobs_are_back_within_seconds(system: System) -> None:
    """kill -9 with jobs in flight: the launcher gives them to another worker within seconds, and nothing is doubled."""
    system.sandbox.fault(answer_delay_seconds=4.0)
    # Sent first: the jobs in flight could be settled before `send` exits.
    system.send(numbered(500))
    system.start_pool(1)
    eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")
    first = system.kill_a_worker()

    eventually(lambda: set(system.workers().values()) - {first}, what="another worker is there")
    system.sandbox.clear_faults()

    system.drained()
    assert system.rows() == {f"r{number}": 1 for number in range(500)}
    assert "back in the queue" in system.said()


def test_only_the_bad_event_is_dead_lettered(system: System) -> None:
    """The other events of its batch are written; the dead letter has its reason, and rq's own tools see it."""
    system.start_pool(1)
    events = numbered(50)
    events[7][1]["model"] = 4.1
    events[9] = ("audio_generation", {"model": "m", "request_id": "r9"})

    sent = system.send(events)

    assert "no event type is named 'audio_generation'" in sent.stderr
    system.drained()
    assert system.rows() == {f"r{number}": 1 for number in range(50) if number not in (7, 9)}
    reasons = {letter.reason: letter.detail for letter in system.dead()}
    assert reasons == {
        "invalid": "model: Input should be a valid string",
        "unknown_event_type": "no event type is named 'audio_generation'",
    }
    listed = json.loads(system.run("dead", "list", "--json").stdout)
    assert {letter["reason"]: letter["events"] for letter in listed} == {"invalid": 1, "unknown_event_type": 1}
    info = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "-u", system.environment["BIRDFEED_REDIS_URL"]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 failed" in info.stdout


@pytest.mark.parametrize("tool", ["birdfeed", "rq"])
def test_dead_letters_are_replayed_after_the_fix(system: System, tool: str) -> None:
    """Quarantined by a schema fault; after the fix `birdfeed dead replay` or `rq requeue` writes the rows once."""
    system.start_pool(1)
    system.sandbox.fault(quarantine_rows={"path": "$.model", "equals": "openai"})
    system.send(numbered(20))
    system.drained()
    assert {letter.reason for letter in system.dead()} == {"quarantined"}
    assert system.ledger()["dead:text_generation:quarantined"] == 20
    system.sandbox.clear_faults()

    if tool == "birdfeed":
        done = system.run("dead", "replay", "--reason", "quarantined")
        assert "20 events of" in done.stdout
    else:
        from rq.registry import FailedJobRegistry

        registry = FailedJobRegistry("birdfeed", connection=system.redis, serializer=JSONSerializer)
        for job_id in registry.get_job_ids():
            registry.requeue(job_id)

    system.drained()
    assert system.rows() == {f"r{number}": 1 for number in range(20)}
    assert system.dead() == []
    assert system.ledger() == {"accepted:text_generation": 20, "written:text_generation": 20}


def test_sigterm_finishes_the_jobs_in_flight(system: System) -> None:
    """The pool stops with exit code 0 and leaves no job in flight."""
    system.sandbox.fault(answer_delay_seconds=4.0)
    system.send(numbered(100))
    pool = system.start_pool(1)
    eventually(lambda: system.redis.zcard(system.keys.started), what="jobs are in hand")

    pool.send_signal(signal.SIGTERM)

    assert pool.wait(60) == 0
    assert system.redis.zcard(system.keys.started) == 0
    assert system.workers() == {}
    written = system.rows()
    assert written.total() == len(written)
    assert len(written) + 100 * system.redis.llen(system.keys.queue_list) >= 100


def test_workers_exit_with_their_launcher(system: System) -> None:
    """After kill -9 of the launcher no worker is left."""
    pool = system.start_pool(2)
    pids = list(system.workers().values())
    pool.kill()
    pool.wait()

    eventually(lambda: all(ended(pid) for pid in pids), what="the workers are gone")
