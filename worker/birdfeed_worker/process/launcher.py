"""The launcher: keeps N worker processes running, gives a dead one's jobs back immediately, and stops them all.

Children are new processes (not forks, so they inherit no sockets) and hold the other end of a pipe: when the launcher
is gone, however it died, they stop.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.monitoring.minutes import WORKER_ENDS, add_counts
from birdfeed_worker.process.child import STACKS_SIGNAL
from birdfeed_worker.process.http import Pulse
from birdfeed_worker.process.presence import forget_worker, pool_name, worker_name
from birdfeed_worker.queue.redis_time import redis_time
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Seconds before a child that ended unexpectedly is restarted: they double up to the cap, and are reset by a run of
#: GOOD_RUN seconds.
RESPAWN_BASE: Final = 0.5
RESPAWN_CAP: Final = 30.0
GOOD_RUN: Final = 60.0
#: Exit code of a child whose settings can't work.
SETTINGS_WRONG: Final = 2
#: Seconds without a heartbeat after which a worker is killed; normally a stalled worker ends itself long before.
SILENT_SECONDS: Final = 360.0
#: Seconds a worker gets to write its stacks.
STACKS_SECONDS: Final = 1.0
#: Seconds between checks of the children.
LOOK_SECONDS: Final = 0.2


@dataclass(slots=True)
class Child:
    """One place in the pool, and the process that fills it."""

    process: subprocess.Popen[bytes] | None = None
    beat_fd: int = -1
    last_beat: float = 0.0
    name: str = ""
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


@dataclass(slots=True)
class Pool:
    """A pool of worker processes.

    Args:
        settings: Passed to the children through the environment.
        connection: Redis, to give back the jobs of children that died.
    """

    settings: WorkerSettings
    connection: Redis
    keys: Keys
    children: list[Child] = field(default_factory=list)
    pulse: Pulse = field(default_factory=lambda: Pulse(pool_name()))
    _signals: int = 0
    _fatal: bool = False
    _wake: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit code: 0 stopped as asked, 2 the settings can't work."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self.children = [Child() for _ in range(self.settings.processes)]
        log.info(
            "pool of %d workers on queue %r, %d (SIGTERM stops it)",
            self.settings.processes,
            self.keys.queue,
            os.getpid(),
        )
        while not self._signals and not self._fatal:
            now = time.monotonic()
            for child in self.children:
                self._look_after(child, now)
            self.pulse.turn(len(self._running()))
            self._wake.wait(LOOK_SECONDS)
        self.pulse.stopping = True
        self._stop()
        return SETTINGS_WRONG if self._fatal else 0

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._wake.set()

    def _look_after(self, child: Child, now: float) -> None:
        if child.process is not None and child.process.poll() is not None:
            self._reap(child, now)
        if child.process is not None and self._silent(child, now):
            log.critical("worker %s sent no heartbeat for %.0f s; killing it", child.name, SILENT_SECONDS)
            kill_with_stacks(child.process)
            self._reap(child, now)
        if child.process is None and now >= child.start_at:
            self._start(child, now)

    def _start(self, child: Child, now: float) -> None:
        child.name = worker_name()
        child.beat_fd, write_end = os.pipe()
        os.set_blocking(child.beat_fd, False)
        child.process = subprocess.Popen(
            [sys.executable, "-m", "birdfeed_worker.process.child", child.name, str(write_end)],
            pass_fds=(write_end,),
            stdin=subprocess.PIPE,
            env={**os.environ, "RQ_KEY_PREFIX": self.keys.prefix},  # rq reads it when it is imported
            # Ctrl-C in a terminal signals the whole process group, but only the launcher stops children.
            start_new_session=True,
        )
        os.close(write_end)
        child.started = child.last_beat = now

    @staticmethod
    def _silent(child: Child, now: float) -> bool:
        """Whether a live worker has sent no heartbeat for too long: native code may never return."""
        try:
            if os.read(child.beat_fd, 65_536):
                child.last_beat = now
        except BlockingIOError:
            pass
        return now - child.last_beat > SILENT_SECONDS

    def _reap(self, child: Child, now: float) -> None:
        """Give the dead child's jobs back, and schedule its replacement."""
        process = child.process
        assert process is not None
        if process.returncode == SETTINGS_WRONG:
            # It has logged what is wrong with the settings; another child would fail in the same way.
            self._fatal = True
        self.pulse.ends += 1
        lived = now - child.started
        if process.returncode == 0:
            # This worker was told to stop, but the pool keeps its size.
            child.failures = 0
        else:
            child.failures = 1 if lived >= GOOD_RUN else child.failures + 1
            self._count_end()
        wait = min(RESPAWN_CAP, RESPAWN_BASE * 2.0 ** max(0, child.failures - 1))
        log.error("worker %s ended (%s); starting another in %.1f s", child.name, _exit_text(process.returncode), wait)
        self._close(child)
        child.process = None
        child.start_at = now + wait
        self._give_back(child.name, died=process.returncode != 0)

    def _count_end(self) -> None:
        try:
            with self.connection.pipeline(transaction=False) as pipe:
                add_counts(pipe, self.keys, redis_time(self.connection), {WORKER_ENDS: 1})
                pipe.execute()
        except RedisError as error:
            log.warning("can't count that a worker ended: %s", type(error).__name__)

    def _give_back(self, name: str, *, died: bool) -> None:
        reserver = Reserver(self.connection, self.keys, "", self.settings.lease_seconds)
        try:
            ids = reserver.recover(name, died=died)
            forget_worker(self.connection, self.keys, name)
        except RedisError as error:
            # Its lease on them will expire.
            log.error("can't give back the jobs of %s (%s); its lease will expire", name, type(error).__name__)
            return
        if ids:
            log.warning("%s of %s back in the queue", counted(len(ids), "job"), name)

    def _stop(self) -> None:
        log.info("stopping: workers finish what is in flight, at most %.0f s", self.settings.stop_timeout)
        asked = self._signals
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + self.settings.stop_timeout
        self._wake.clear()
        while self._running() and time.monotonic() < deadline and self._signals == asked:
            self._wake.wait(LOOK_SECONDS)
        late = self._running()
        for child in late:
            assert child.process is not None
            log.warning("worker %s is still busy; killing it, its jobs go back to the queue", child.name)
            child.process.kill()
        for child in self.children:
            if child.process is None:
                continue
            child.process.wait()
            code = child.process.returncode
            self._close(child)
            if code != 0:
                self._give_back(child.name, died=False)
        log.info("stopped")

    def _running(self) -> list[Child]:
        return [child for child in self.children if child.process is not None and child.process.poll() is None]

    @staticmethod
    def _close(child: Child) -> None:
        os.close(child.beat_fd)
        if child.process is not None and child.process.stdin is not None:
            child.process.stdin.close()


def kill_with_stacks(process: subprocess.Popen[bytes]) -> None:
    """kill -9, after asking the process to write the stacks of its threads to standard error.

    It writes them in the signal's handler, even if native code never returns to Python (see child.py).
    """
    process.send_signal(STACKS_SIGNAL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STACKS_SECONDS)
    process.kill()
    process.wait()


def _exit_text(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
