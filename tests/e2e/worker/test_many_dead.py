"""Many dead letters: listed, filtered and counted in seconds and flat memory; a replay cut short twice ends with every
event in the store once.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.commands import BIRDFEED
from tests.support.producer.apps.run import Server
from tests.support.servers.system import System
from tests.support.wait import eventually
from tests.support.worker.dead import bury_many


@pytest.fixture
def system(sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    with Server(tmp_path / "valkey", appendfsync="no") as redis, System(redis.url, sandbox, tmp_path) as system:
        # So many small letters would be merged while the test looks at them.
        system.redis.set(system.keys.birdfeed("replaying"), "test")
        yield system


def measured(system: System, *command: str) -> tuple[Any, float, int]:
    """What a command printed (JSON), how long it took (s), and the most memory it had (kB)."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "try:\n"
        "    from birdfeed_cli.__main__ import main\n"
        "    main()\n"
        "finally:\n"
        # On Linux, getrusage's maximum begins with that of the process which started this one.
        "    linux = Path('/proc/self/status')\n"
        "    peak = linux.read_text().split('VmHWM:')[1].split()[0] if linux.exists() else\\\n"
        "        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "    print(peak, file=sys.stderr)\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=system.environment,
        capture_output=True,
        text=True,
        cwd=system.folder,
        check=False,
        timeout=300,
    )
    took = time.monotonic() - began
    assert done.returncode in (0, 3), done.stderr  # 3: status, as no worker runs
    return json.loads(done.stdout), took, int(done.stderr.split()[-1])


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_dead_letters(system: System) -> None:
    """List, filter and dry run in seconds; memory as with a tenth of them."""
    found: dict[str, list[tuple[float, int]]] = {}
    for count in (10_000, 90_000):
        bury_many(system.redis, system.keys, count)
        for command in (
            ("dead", "list", "--json"),
            ("dead", "list", "--json", "--reason", "quarantined"),
            ("dead", "list", "--json", "--user", "u3"),
            ("dead", "replay", "--reason", "rejected", "--dry-run", "--json"),
            ("dead", "replay", "--user", "u3", "--dry-run", "--json"),
            ("dead", "purge", "--all", "--dry-run", "--json"),
            ("ledger", "--json"),
            ("status", "--json"),
        ):
            out, took, memory = measured(system, *command)
            found.setdefault(" ".join(command), []).append((took, memory))
            if command[1:] == ("list", "--json"):
                assert sum(kind["events"] for kind in out) == (10_000 if count == 10_000 else 100_000)
    for name, ((_, small), (took, large)) in found.items():
        print(f"{name}: {took:.1f} s, {large / 1024:.0f} MB")
        assert took < 30, name
        assert large < small * 1.2 + 10_000, name
        assert large < 500_000, name


def replay_cut_short(system: System, how: signal.Signals, after: int, *command: str) -> str:
    """Start a replay, and stop it by a signal once that many events are in the store; returns its output."""
    before = sum(system.rows().values())
    replay = subprocess.Popen(
        [*BIRDFEED, *command], env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    eventually(lambda: sum(system.rows().values()) >= before + after, what="some are home", within=120)
    replay.send_signal(how)
    said, _ = replay.communicate(timeout=120)
    return said


def interrupted_twice(system: System, count: int) -> None:
    """Ctrl-C, then kill -9, then without interruption."""
    bury_many(system.redis, system.keys, count)
    system.start_pool(2)
    # Slow enough to be far from its end when the first rows are written, also on a slow machine.
    rate = str(count / 30)

    said = replay_cut_short(system, signal.SIGINT, count // 10, "dead", "replay", "--all", "--rate", rate)
    assert "continue with: birdfeed dead replay --resume replay-" in said
    replay_id = said.split("--resume ")[1].split()[0]
    replay_cut_short(system, signal.SIGKILL, count // 10, "dead", "replay", "--resume", replay_id, "--rate", rate)
    assert 0 < len(system.redis.zrange(system.keys.failed, 0, -1)) < count
    done = system.run("dead", "replay", "--resume", replay_id, "--json")

    assert done.returncode == 0, done.stderr
    system.drained(within=300)
    assert system.rows() == {f"r{number}": 1 for number in range(count)}
    assert system.run("ledger").returncode == 0
    log = json.loads(system.run("dead", "log", "--json").stdout)
    assert [entry["action"] for entry in log] == [
        "replay ends",
        "replay begins",
        "replay begins",  # which was killed
        "replay ends",
        "replay begins",
    ]
    assert {entry["replay"] for entry in log} == {replay_id}


def test_a_replay_that_is_interrupted_twice(system: System) -> None:
    """Every event is in the store once."""
    interrupted_twice(system, 1_500)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_large_replay_that_is_interrupted_twice(system: System) -> None:
    """The same with a hundred thousand."""
    interrupted_twice(system, 100_000)
