"""Track, flush, close, configure, fork, exit, and a Redis that hangs or is lost, in any order: no event is lost.

Hypothesis chooses the steps; a child process runs them, while one of its threads tracks all the time. In the end every
tracked event is in Redis once. The gate does about 2,000 steps; `make soak` runs for ten minutes.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.support.producer.apps.run import APPS, App, Server, environment
from tests.support.wait import eventually

#: Steps of one run, and of all runs in the gate.
STEPS, GATE = 250, 2_000


class AnyOrder(RuleBasedStateMachine):
    """One process, its server, and the events that must be in Redis in the end."""

    server: ClassVar[Server]

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.expected: set[int] = set()
        self.generation = 0
        self.frozen = False
        with self.server.client() as client:
            client.flushall()
            self.pid = int(client.info("server")["process_id"])
        self.env = {
            "BIRDFEED_REDIS_URL": self.server.url,
            "BIRDFEED_SPOOL_DIR": self.folder.name,
            "BIRDFEED_FLUSH_INTERVAL": "0.01",
            "BIRDFEED_REDIS_TIMEOUT": "0.1",
            "BIRDFEED_CLOSE_TIMEOUT": "30",
        }
        self.program = subprocess.Popen(
            [sys.executable, "-W", "error", str(APPS / "driven.py")],
            env={**environment(), **self.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, word: str) -> str:
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(word + "\n")
        self.program.stdin.flush()
        answer = self.program.stdout.readline()
        assert answer, f"it ended at {word!r}"
        return answer.split(" ")[0]

    @rule(count=st.sampled_from([1, 3, 700]))
    def track(self, count: int) -> None:
        self.tell(f"track {count}")

    @rule()
    def flush(self) -> None:
        assert self.tell("flush") == "True"

    @rule()
    def close(self) -> None:
        assert self.tell("close") == "True"

    @rule()
    def configure(self) -> None:
        self.tell("configure")

    @rule(count=st.sampled_from([1, 20]))
    def fork(self, count: int) -> None:
        self.generation += 1
        assert self.tell(f"fork {count}") == "0"
        self.expected |= set(range(1_000_000 * self.generation, 1_000_000 * self.generation + count))

    @precondition(lambda self: not self.frozen)
    @rule()
    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    @precondition(lambda self: self.frozen)
    @rule()
    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    @precondition(lambda self: not self.frozen)
    @rule()
    def lose_connections(self) -> None:
        with self.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    @precondition(lambda self: not self.frozen)
    @rule(full=st.booleans())
    def fill(self, full: bool) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", "1" if full else "0")

    def teardown(self) -> None:
        if not hasattr(self, "program"):
            return
        try:
            if self.frozen:
                os.kill(self.pid, signal.SIGCONT)
            with self.server.client() as client:
                client.config_set("maxmemory", "0")
            out, _ = self.program.communicate("exit\n", timeout=120)
            assert self.program.returncode == 0
            tracked, dropped = out.split()
            assert dropped == "0"
            self.expected |= set(range(int(tracked)))
            if set(self.server.numbers()) != self.expected:
                with App("drains", 300, env=self.env) as drainer:
                    drainer.line()
                    eventually(lambda: set(self.server.numbers()) >= self.expected, what="every event")
            assert set(self.server.final_numbers()) == self.expected
        finally:
            with suppress(ProcessLookupError):
                self.program.kill()
            self.program.communicate()
            self.folder.cleanup()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("valkey")
    with Server(folder, appendonly="no") as made:
        AnyOrder.server = made
        yield made


def look(runs: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=derandomize,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_two_thousand_steps(server: Server) -> None:
    """The same steps in each run."""
    look(GATE // STEPS, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_ten_minutes(server: Server) -> None:
    """Other steps in each run."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        look(10, derandomize=False)
