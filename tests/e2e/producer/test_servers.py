"""gunicorn and uWSGI under load, and a rolling restart in the middle: no event is lost or sent twice."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Self

import pytest

from tests.support.producer.apps.run import App, Server, environment
from tests.support.repository import ROOT
from tests.support.servers.redis_servers import free_port
from tests.support.wait import eventually

APPS = ROOT / "tests" / "support" / "producer" / "apps"


#: The path that is requested to find out whether the server answers; it is tracked any number of times.
READY = -1


class Load:
    """Threads that request /1, /2, ... and record which were answered, and by which worker, until the context ends."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self._port = port
        self._numbers = iter(range(1, 10**9))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.answered: dict[int, int] = {}
        self.unanswered: list[int] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{number}", timeout=10) as answer:
                    self.answered[number] = int(answer.read())
            except (OSError, HTTPException, ValueError):
                # A worker that is stopping may close a connection before it reads; one that is killed, in the middle of
                # its answer.
                self.unanswered.append(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Also after a failed test: otherwise the threads would keep this process running for ever."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def serving(command: list[str], port: int, log: Path, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A server of web.py, from when it answers; after the block it is told to end, and does."""
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=APPS, env=env, stderr=file)
    try:
        eventually(lambda: _answers(port), what="the server answers")
        yield server
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


@pytest.mark.parametrize(
    ("options", "at_import"),
    [([], False), (["--preload"], True), (["--worker-class", "gthread", "--threads", "4"], False)],
    ids=["sync", "preload, used at import", "threads"],
)
def test_a_rolling_restart_under_load(tmp_path: Path, options: list[str], at_import: bool) -> None:
    """Every answered request's event is there once; before, during and after the workers change."""
    port = free_port()
    with Server(tmp_path / "valkey") as server:
        env = {
            **environment(),
            "BIRDFEED_REDIS_URL": server.url,
            "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"),
            **({"TRACK_AT_IMPORT": "1"} if at_import else {}),
        }
        command = [sys.executable, "-m", "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{port}", *options]
        with serving([*command, "web:app"], port, tmp_path / "log", env) as gunicorn, Load(port) as load:
            eventually(lambda: len(load.answered) > 200, what="requests")
            before = set(load.answered.values())
            gunicorn.send_signal(signal.SIGHUP)
            eventually(lambda: len(set(load.answered.values()) - before) >= 4, what="four new workers")
            so_far = len(load.answered)
            eventually(lambda: len(load.answered) > so_far + 200, what="requests")
        # The events of a worker that had no answer from Redis at exit are sent by the next process.
        with App("drains", 300, env=env) as drainer:
            drainer.line()
            # Tracked at import, with --preload: once, by the parent of all workers.
            expected = sorted([*load.answered, *([0] if at_import else [])])
            tolerated = {*load.unanswered, READY}
            eventually(lambda: set(expected) <= set(server.numbers()), what="every event")
        assert [number for number in server.final_numbers() if number not in tolerated] == expected
        assert len(load.unanswered) < len(load.answered) / 10


@pytest.mark.parametrize("option", ["--py-call-uwsgi-fork-hooks", "--lazy-apps", "--need-app"])
def test_uwsgi(tmp_path: Path, option: str) -> None:
    """With the app imported before the fork, in which the flusher ran; and without one of the options that docs name.

    uWSGI forks in C and by default runs none of Python's hooks. (--need-app changes nothing here.)
    """
    pytest.importorskip("pyuwsgi", reason="pyuwsgi has no package for this machine")
    port = free_port()
    with Server(tmp_path / "valkey") as server:
        env = {
            **environment(),
            **{"BIRDFEED_REDIS_URL": server.url, "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool")},
            **{"TRACK_AT_IMPORT": "1", "FLUSH_AT_IMPORT": "1"},
        }
        options = (
            f"--http-socket 127.0.0.1:{port} --module web:app --die-on-term --master --processes 3 --enable-threads"
        )
        command = [sys.executable, "-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])", *options.split(), option]
        with serving(command, port, tmp_path / "log", env), Load(port) as load:
            # A worker that is told to end while it imports the app doesn't end.
            eventually(lambda: len(set(load.answered.values())) == 3, what="requests at all workers")
            eventually(lambda: len(server.numbers()) > 300, what="events while it runs")
        found = [number for number in server.final_numbers() if number not in {0, READY, *load.unanswered}]

    assert found == sorted(load.answered), (tmp_path / "log").read_text()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{READY}", timeout=5):
            return True
    except (OSError, HTTPException):
        return False


def test_a_killed_worker_loses_at_most_its_last_flush_interval(tmp_path: Path) -> None:
    """kill -9 of one of four workers; with durability=spool nothing is lost at all."""
    port = free_port()
    with Server(tmp_path / "valkey") as server:
        env = {
            **environment(),
            "BIRDFEED_REDIS_URL": server.url,
            "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"),
            "BIRDFEED_DURABILITY": "spool",
            "BIRDFEED_SPOOL_WAIT": "60",
        }
        command = [sys.executable, "-m", "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{port}", "web:app"]
        with (tmp_path / "log").open("w") as log:
            gunicorn = subprocess.Popen(command, cwd=APPS, env=env, stderr=log)
        try:
            eventually(lambda: _answers(port), what="gunicorn answers")
            with Load(port) as load:
                eventually(lambda: len(load.answered) > 100, what="requests")
                os.kill(next(iter(load.answered.values())), signal.SIGKILL)
                so_far = len(load.answered)
                eventually(lambda: len(load.answered) > so_far + 100, what="requests")
            expected = set(load.answered)
            # What the killed worker was sending is free when its lease has expired.
            eventually(lambda: expected <= set(server.numbers()), what="every answered request's event", within=120)
        finally:
            gunicorn.terminate()
            gunicorn.wait(60)
        server.final_numbers()
