"""`birdfeed spool list` and `drain`: an operator lists and sends what a producer left in the spool."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System

TRACK = (
    "import birdfeed\n"
    "for n in range(30): birdfeed.track_event('text_generation', {'model': 'openai', 'request_id': f'r{n}'})\n"
    "birdfeed.close(5)\n"
)


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        yield system


def test_what_a_producer_left_is_listed_and_sent(system: System) -> None:
    """Tracked while Redis was away, by a process that has exited; drained by the command when Redis is back."""
    url = system.environment["BIRDFEED_REDIS_URL"]
    system.environment["BIRDFEED_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    subprocess.run([sys.executable, "-c", TRACK], env=system.environment, check=True, capture_output=True)

    listed = json.loads(system.run("spool", "list", "--json").stdout)
    assert sum(batch["events"] for spool in listed["spools"] for batch in spool["batches"]) == 30
    assert "30 events" in system.run("spool", "list").stdout
    away = system.run("spool", "drain")
    assert away.returncode == 3
    assert "30 events are left" in away.stdout

    system.environment["BIRDFEED_REDIS_URL"] = url
    (path,) = (spool["file"] for spool in listed["spools"])
    drained = system.run("spool", "drain", "--path", path, "--json")

    batches = sum(len(spool["batches"]) for spool in listed["spools"])
    assert json.loads(drained.stdout) == {"events": 30, "batches": batches, "dropped": 0, "left": 0}
    system.start_pool(1)
    system.drained()
    assert system.rows() == {f"r{n}": 1 for n in range(30)}
    assert system.ledger() == {"accepted:text_generation": 30, "written:text_generation": 30}

    system.environment["BIRDFEED_SPOOL_DIR"] = str(system.folder / "nowhere")
    assert "no spool in" in system.run("spool", "drain").stdout, "a misspelt folder is told from an empty one"
