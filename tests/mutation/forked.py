"""Run tests on a changed program, in a child of a process that has already loaded the libraries.

Nothing on disk is changed: `change` is called in the child, before the first module of ours is imported there.
"""

import atexit
import importlib
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Final

from tests.support.wait import LOOK, pause

#: Seconds for a mutant besides twice what its tests need: a mutant that takes longer hangs, and is reported, too.
SPARE_SECONDS: Final = 30.0
#: pytest warns about plugins that were imported before it could rewrite their asserts.
LOADED_ALREADY: Final = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


@contextmanager
def standing_valkey() -> Iterator[None]:
    """One server for all children."""
    from tests.support.servers import redis_servers

    with tempfile.TemporaryDirectory() as folder, redis_servers.valkey(Path(folder)) as url:

        @contextmanager
        def standing(data_dir: Path, **config: str) -> Iterator[str]:
            yield url

        redis_servers.valkey = standing
        yield


def load_libraries() -> None:
    """Import what every child would, before the first one is forked; what else they compile is kept for the others."""
    folder = tempfile.mkdtemp(prefix="birdfeed-mutants-")
    atexit.register(shutil.rmtree, folder)
    sys.dont_write_bytecode, sys.pycache_prefix = False, folder
    for name in (
        "pytest", "hypothesis", "anyio.pytest_plugin", "redis", "rq.worker", "httpx", "pydantic", "pydantic_settings",
        "orjson", "structlog",
        "prometheus_client", "zstandard", "fakeredis", "genai_prices", "birdfeed_schemas.registry",
        "birdfeed_worker.pricing.book.reload", "birdfeed_worker.settings", "tests.support.wait",
    ):  # fmt: skip
        importlib.import_module(name)


def install_code(path: Path, code: CodeType) -> None:
    """From now on an import of the module gives the changed one."""
    real = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        return code if self.path == str(path) else real(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def install_script(path: Path, text: str) -> None:
    """From now on the changed Lua script is read."""
    real = Path.read_text

    def read_text(self: Path, *args: Any, **more: Any) -> str:
        return text if self == path else real(self, *args, **more)

    Path.read_text = read_text  # type: ignore[method-assign]


def _child(change: Callable[[], None] | None, tests: Sequence[str], output: Path) -> None:
    """Never returns: exit code 0 if all tests pass."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    said = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    import pytest

    if change is not None:
        change()
    options = ["-x", "-q", "--no-cov", "-p", "no:cacheprovider", "--timeout=20", *LOADED_ALREADY]
    os._exit(int(pytest.main([*options, *tests])))


def failure(change: Callable[[], None] | None, tests: Sequence[str], seconds: float) -> str:
    """The first test that fails after `change` was called, or another error; nothing if all pass.

    With None nothing is changed. The tests take about `seconds` without a change.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        pid = os.fork()
        if pid == 0:
            _child(change, tests, output)
        until = time.monotonic() + 2 * seconds + SPARE_SECONDS
        while time.monotonic() < until:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return _first_failure(output) if os.waitstatus_to_exitcode(status) else ""
            pause(LOOK)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "they take too long"


def in_child(work: Callable[[Callable[[str], None]], None], seconds: float) -> list[str]:
    """The lines that `work` reports in a child of this process, or why it failed.

    Its standard output is discarded. A child that takes longer than `seconds` is killed.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(read)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        try:
            with open(write, "w", buffering=1) as said:
                work(lambda line: print(line, file=said))
        finally:
            os._exit(0)
    os.close(write)
    until, data = time.monotonic() + seconds, b""
    with open(read, "rb", buffering=0) as said:
        while select.select([said], [], [], max(0.0, until - time.monotonic()))[0]:
            part = said.read(65_536)
            if not part:
                break
            data += part
        else:
            os.killpg(pid, signal.SIGKILL)
            data += b"it takes too long\n"
    os.waitpid(pid, 0)
    return data.decode().splitlines()


def _first_failure(output: Path) -> str:
    lines = output.read_text(errors="replace").splitlines()
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED tests", "ERROR tests"))]
    return failed[0].partition(" ")[2] if failed else "pytest: " + " ".join(lines[-3:])
