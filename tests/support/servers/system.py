"""A system under test: where Redis and the store are, a pool of workers, and queries about them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import DeadLetterInfo, dead_letters_of
from birdfeed_worker.monitoring.depth import depth
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.reply import as_text
from redis import Redis

from tests.support.commands import birdfeed, clean_environment
from tests.support.wait import eventually

#: Waits that are short enough for tests.
HASTE = {
    "BIRDFEED_SETTLE_SECONDS": "1",
    "BIRDFEED_RETRY_BASE": "0.2",
    "BIRDFEED_RETRY_CAP": "1",
    "BIRDFEED_LEASE_SECONDS": "5",
    "BIRDFEED_STOP_TIMEOUT": "10",
    "BIRDFEED_READ_TIMEOUT": "5",
    "BIRDFEED_METRICS_PORT": "0",
}
TABLES = ("llm_events", "image_events")


class System(AbstractContextManager["System"]):
    """Redis, a sandbox and the processes that use them; `settings` override the tests' short waits."""

    def __init__(self, redis_url: str, sandbox: Sandbox, folder: Path, **settings: str) -> None:
        self.sandbox = sandbox
        self.folder = folder
        # With a worker's timeouts, for tests in which the Redis of the URL changes.
        self.redis = connect(redis_url) if redis_url.startswith("redis+sentinel:") else Redis.from_url(redis_url)
        self.keys = Keys("rq", "birdfeed")
        self.environment = {
            **clean_environment(),
            "BIRDFEED_REDIS_URL": redis_url,
            "TINYBIRD_HOST": sandbox.url,
            "TINYBIRD_TOKEN": sandbox.append_token,
            "TINYBIRD_READ_TOKEN": sandbox.read_token,
            "BIRDFEED_SPOOL_DIR": str(folder / "spool"),
            # With a buffered pipe, output would come later than tests wait.
            "PYTHONUNBUFFERED": "1",
            **HASTE,
            **settings,
        }
        self.log = folder / "workers.log"
        self.pools: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self.pools:
            if pool.poll() is None:
                pool.terminate()
                try:
                    pool.wait(60)
                except subprocess.TimeoutExpired:
                    pool.kill()
                    pool.wait()
        self.redis.close()

    @contextmanager
    def redis_config(self, **values: Any) -> Iterator[None]:
        """Redis with these settings (names with underscores) while the block runs."""
        names = {name.replace("_", "-"): value for name, value in values.items()}
        before = {name: str(self.redis.config_get(name)[name]) for name in names}
        for name, value in names.items():
            self.redis.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                self.redis.config_set(name, value)

    def start_pool(
        self,
        processes: int = 1,
        command: Iterable[str] = ("-m", "birdfeed_worker"),
        *,
        wait: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A launcher with its workers; returns once they are registered. `environment` is set only for it."""
        before = len(self.workers()) if wait else 0
        with self.log.open("ab") as log:
            pool = subprocess.Popen(
                [sys.executable, *command],
                env={**self.environment, "BIRDFEED_PROCESSES": str(processes), **(environment or {})},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        self.pools.append(pool)
        if wait:
            eventually(lambda: len(self.workers()) >= before + processes, what="the workers are registered")
        return pool

    def run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line until it exits."""
        return birdfeed(*command, environment=self.environment, folder=self.folder, text=text)

    def send(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> subprocess.CompletedProcess[str]:
        """Send events with `birdfeed send -`."""
        lines = (json.dumps({"event_type": kind, "event_data": data}) + "\n" for kind, data in events)
        return self.run("send", "-", text="".join(lines))

    def workers(self) -> dict[str, int]:
        """Names and process ids of the workers rq knows."""
        found = {}
        for key in self.redis.smembers("rq:workers"):
            pid = self.redis.hget(as_text(key), "pid")
            if pid is not None:
                found[as_text(key).removeprefix("rq:worker:")] = int(pid)
        return found

    def kill_a_worker(self, signum: int = signal.SIGKILL) -> int:
        """Send a signal to one worker process; returns its id."""
        pid = next(iter(self.workers().values()))
        os.kill(pid, signum)
        return pid

    def waiting(self) -> int:
        """Jobs that are queued, in flight or scheduled."""
        return depth(self.redis, self.keys).total

    def drained(self, within: float = 120.0) -> None:
        """Wait until no job is queued, in flight or scheduled."""
        eventually(lambda: self.waiting() == 0, what=f"the queue runs dry (log: {self.log})", within=within)

    def rows(self, column: str = "request_id") -> Counter[str]:
        """How many rows each value of a column has, over all tables."""
        found: Counter[str] = Counter()
        for table in TABLES:
            for row in self.sandbox.sql(f"SELECT {column} AS value, count() AS n FROM {table} GROUP BY value"):
                found[str(row["value"])] += int(row["n"])
        return found

    def dead(self) -> list[DeadLetterInfo]:
        """The dead letters."""
        return list(dead_letters_of(self.redis, self.keys))

    def dead_ids(self) -> list[str]:
        """request_id of every dead event that can be read."""
        ids = []
        for letter in self.dead():
            for line in letter.batch.lines if letter.batch is not None else ():
                ids.append(json.loads(line)["data"]["request_id"])
        return ids

    def ledger(self) -> dict[str, int]:
        """The ledger's counts that are not 0, without the falls and the reasons of purges."""
        counts = {as_text(name): int(value) for name, value in self.redis.hgetall(self.keys.ledger).items()}
        return {name: count for name, count in counts.items() if count and not name.startswith(("fell:", "purged_as:"))}

    def said(self) -> str:
        """What the workers logged."""
        return self.log.read_text()
