"""A sandbox in a separate process, for tests and demos: `with Sandbox() as tinybird: ...`.

This module uses only the standard library; the other process needs the extra `sandbox`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from birdfeed_sandbox.errors import SandboxError, StartError
from birdfeed_sandbox.settings import TOKENS, random_token, token_variable

#: How long a stopping sandbox may take, in seconds, before it is killed.
_STOP_SECONDS: Final = 15.0

_opener = build_opener(ProxyHandler({}))  # without a proxy: the sandbox is on this machine


class Sandbox:
    """One sandbox process.

    It ends with `stop`, at the end of the `with` block, or with this process. After `stop` it can be started again,
    with the same port and data.

    Attributes:
        url: Its URL, such as `http://127.0.0.1:41234`.
        append_token, read_token, admin_token: See Settings.
    """

    def __init__(
        self,
        *,
        project: Path | str | None = None,
        data_dir: Path | str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        append_token: str | None = None,
        read_token: str | None = None,
        admin_token: str | None = None,
        requests_per_second: float = 100.0,
        max_body_bytes: int = 10_000_000,
        start_timeout_seconds: float = 60.0,
    ) -> None:
        """Prepare a sandbox; nothing runs before `start`.

        Args:
            project: A folder with datasources/ and endpoints/; None: birdfeed's own.
            data_dir: Where rows are kept; None: a temporary folder, which is removed at the end.
            host: A loopback address.
            port: The port; 0: any free one.
            append_token, read_token, admin_token: See Settings; None: random ones.
            requests_per_second, max_body_bytes: See Settings.
            start_timeout_seconds: How long `start` waits for it to answer.
        """
        self.append_token = append_token or random_token("append")
        self.read_token = read_token or random_token("read")
        self.admin_token = admin_token or random_token("admin")
        self._host = host
        self._port = port
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._temporary: Path | None = None
        self._start_timeout_seconds = start_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._parent_fd: int | None = None
        self._options = [
            f"--requests-per-second={requests_per_second}",
            f"--max-body-bytes={max_body_bytes}",
            *([f"--project={project}"] if project is not None else []),
        ]

    @property
    def url(self) -> str:
        """Its URL."""
        if self._port == 0:
            raise StartError("the sandbox has no address yet: start it first")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    def start(self) -> Sandbox:
        """Start the process and wait until it answers.

        Raises:
            StartError: It didn't start; the message has its output.
        """
        if self._process is not None:
            raise StartError("the sandbox is already running")
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="birdfeed-sandbox-"))
        port_file = self._temporary / "port"
        port_file.unlink(missing_ok=True)
        watched, self._parent_fd = os.pipe()
        command = [
            sys.executable, "-m", "birdfeed_sandbox", f"--host={self._host}", f"--port={self._port}",
            f"--data-dir={self._data_dir or self._temporary / 'data'}", f"--port-file={port_file}",
            f"--parent-fd={watched}", *self._options,
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "TZ": "UTC",
            **{token_variable(kind): getattr(self, f"{kind}_token") for kind in TOKENS},
        }
        with (self._temporary / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=(watched,),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        os.close(watched)
        deadline = time.monotonic() + self._start_timeout_seconds
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._fail_to_start()
            time.sleep(0.02)
        self._port = int(port_file.read_text())
        return self

    def stop(self) -> int:
        """Stop the process with SIGTERM, and wait for it; returns its exit status. Rows stay for another `start`.

        Raises:
            StartError: It isn't running.
        """
        process = self._running()
        process.terminate()
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            self._forget_process()

    def kill(self) -> None:
        """Kill the process with SIGKILL.

        Raises:
            StartError: It isn't running.
        """
        process = self._running()
        process.kill()
        process.wait()
        self._forget_process()

    def close(self) -> None:
        """Stop the process, if it runs, and remove the temporary folder with its rows."""
        if self._process is not None:
            self.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> Sandbox:
        if self._process is None:
            try:
                self.start()
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Run any statement, without faults and quotas; returns its rows."""
        rows: list[dict[str, Any]] = self._control("POST", "sql", {"q": query})["data"]
        return rows

    def fault(self, **switches: Any) -> int:
        """Switch a fault on (see the table in README.md); returns its number, for `clear_faults`."""
        return int(self._control("POST", "fault", switches)["id"])

    def clear_faults(self, fault_id: int | None = None) -> int:
        """Switch off one fault, or all; returns how many were on."""
        query = "" if fault_id is None else f"?id={fault_id}"
        return int(self._control("DELETE", f"fault{query}")["cleared"])

    def state(self, *, since: int = 0) -> dict[str, Any]:
        """Requests, answers by status, rows by table, faults, and the journal's entries after an id."""
        return self._control("GET", f"state?since={since}")

    def reset(self) -> None:
        """Return to the initial state: no rows, no faults, no journal, the project's schemas."""
        self._control("POST", "reset", {})

    def replace_datasource(self, name: str, text: str) -> None:
        """Replace a data source by an empty one, made from another .datasource file's text."""
        self._control("POST", "tables", {"datasource": name, "text": text})

    def output(self) -> str:
        """What the process has printed so far."""
        if self._temporary is None:
            return ""
        with contextlib.suppress(FileNotFoundError):
            return (self._temporary / "output").read_text(errors="replace")
        return ""

    def _control(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._running()
        data = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        request = Request(f"{self.url}/_sandbox/{path}", data, headers, method=method)
        try:
            with _opener.open(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except HTTPError as error:
            with error:
                raise SandboxError(json.load(error)["error"]) from error

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise StartError("the sandbox is not running")
        return self._process

    def _fail_to_start(self) -> None:
        process = self._running()
        process.kill()
        status = process.wait()
        self._forget_process()
        raise StartError(f"the sandbox didn't start (exit status {status}): {self.output().strip()[-2000:]}")

    def _forget_process(self) -> None:
        self._process = None
        if self._parent_fd is not None:
            os.close(self._parent_fd)
            self._parent_fd = None
