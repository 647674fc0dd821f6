"""The services of examples/ as processes: each with a provider that counts the tokens."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.support.commands import clean_environment
from tests.support.repository import ROOT
from tests.support.servers.redis_servers import free_port
from tests.support.wait import eventually

EXAMPLES: Final = ROOT / "examples"


@contextmanager
def running(folder: Path, environment: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in examples/ with this Python; it is terminated at the end, and must exit normally."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, cwd=EXAMPLES, stdout=log, stderr=log
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
            process.wait()
    assert process.returncode in (0, -signal.SIGTERM), (folder / "log").read_text()


@contextmanager
def serving(folder: Path, environment: Mapping[str, str], *command: str) -> Iterator[httpx.Client]:
    """A web service; `{port}` in the command is its port."""
    port = free_port()
    with (
        running(folder, environment, *(word.format(port=port) for word in command)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        eventually(lambda: _answers(client), what="the service", within=300)
        yield client


def _answers(client: httpx.Client) -> bool:
    try:
        client.get("/")
    except httpx.TransportError:
        return False
    return True


@contextmanager
def provider_running(folder: Path) -> Iterator[str]:
    """The provider's address."""
    with serving(folder, clean_environment(), "uvicorn", "provider:app", "--port", "{port}") as client:
        yield str(client.base_url).rstrip("/")
