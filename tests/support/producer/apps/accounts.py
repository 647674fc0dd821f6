"""Programs in which events were once lost without a count: `python accounts.py NAME`, set up by the environment alone.

Each prints at the end how many events it tracked, and how many of them were counted as dropped. Its events have the
program's name as their `environment` (from the variable PROGRAM), so that their rows can be counted.
"""

import asyncio
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import birdfeed
from birdfeed import track as tracked
from birdfeed.errors import SpoolError
from birdfeed.spool.store import Spool

PROGRAM = os.environ["PROGRAM"]
_tracked = 0


def track(events: int = 1) -> None:
    global _tracked
    for _ in range(events):
        _tracked += 1
        birdfeed.track_event("text_generation", {"model": "m", "environment": PROGRAM})


@contextmanager
def tracking() -> Iterator[None]:
    """A thread tracks while the block runs."""
    stop = threading.Event()

    def steadily() -> None:
        while not stop.is_set():
            track()
            time.sleep(0.0003)

    thread = threading.Thread(target=steadily)
    thread.start()
    yield
    stop.set()
    thread.join()


def rounds() -> Iterator[None]:
    """Some changes, with enough time for events between them."""
    for _ in range(20):
        yield
        time.sleep(0.02)


@contextmanager
def silence() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


# ---- states


def configures_while_tracking() -> None:
    with tracking():
        for _ in rounds():
            birdfeed.configure()


def closes_while_tracking() -> None:
    with tracking():
        for _ in rounds():
            birdfeed.close()


def configures_after_the_first_event() -> None:
    track()
    time.sleep(0.2)
    birdfeed.configure()
    track()


def closes_on_a_redis_that_hangs() -> None:
    """There is no spool for the events."""
    with silence() as url:
        birdfeed.configure(redis_url=url, spool_bytes=0, redis_timeout=8, close_timeout=1)
        track(10)
        birdfeed.close()


def goes_on_after_a_close_that_gave_up() -> None:
    with silence() as url:
        birdfeed.configure(redis_url=url, spool_bytes=0, redis_timeout=8)
        track(3)
        birdfeed.close(timeout=0.3)
        birdfeed.configure()
        track(7)


# ---- processes


def forks_while_tracking() -> None:
    global _tracked
    with tracking():
        children = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                track()
                os._exit(0 if birdfeed.close() else 1)
            children.append(child)
        assert {os.waitpid(child, 0)[1] for child in children} == {0}
    _tracked += len(children)


def is_killed_with_events_on_the_disk() -> None:
    """Another process sends its events from the spool."""
    birdfeed.configure(durability="spool", spool_wait=60, flush_interval=60)
    child = os.fork()
    if child == 0:
        track(50)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    global _tracked
    _tracked += 50
    birdfeed.start()
    while not _spool_is_empty():
        time.sleep(0.05)


def _spool_is_empty() -> bool:
    (path,) = Path(os.environ["BIRDFEED_SPOOL_DIR"]).rglob("spool-v*.sqlite3")
    try:
        left = Spool(path, max_bytes=0).totals()
    except SpoolError:  # it is being written
        return False
    return left.events + left.reports == 0


def shares_its_spool() -> None:
    """Another process writes the spool's file for a second; events wait in memory meanwhile."""
    birdfeed.configure(durability="spool", spool_wait=0.01)
    track(10)
    (path,) = Path(os.environ["BIRDFEED_SPOOL_DIR"]).rglob("spool-v*.sqlite3")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        track(10)
        other.execute("COMMIT")
    track(10)


def has_no_rq() -> None:
    sys.modules["rq"] = None  # type: ignore[assignment]
    track(10)


# ---- calls


def flushes_in_a_hook() -> None:
    """A flush in a hook would wait for itself."""

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        birdfeed.flush(3)
        return event

    birdfeed.configure(before_send=hook)
    track(10)


def calls_wrongly() -> None:
    """An invalid event type, and invalid data."""
    global _tracked
    for kind, data in (("x" * 101, {"model": "m"}), ("", {"model": "m"}), ("a\nb", {"model": "m"}), ("a", "text")):
        birdfeed.track_event(birdfeed.EventType(kind), data)  # type: ignore[arg-type]
        _tracked += 1
    track(10)


def shares_a_track_object() -> None:
    """Two tasks use one at once; and a coroutine function behind another decorator is tracked until it finishes."""
    global _tracked
    shared = tracked("text_generation", model="m", environment=PROGRAM)

    async def work(seconds: float) -> None:
        with shared as event:
            await asyncio.sleep(seconds)
            event["usage"] = {"total_tokens": 5}

    def other(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: function(*args)

    async def both() -> None:
        await asyncio.gather(work(0.02), work(0.04))
        await tracked("text_generation", model="m", environment=PROGRAM)(other(asyncio.sleep))(0.01)

    asyncio.run(both())
    _tracked += 3


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    birdfeed.close()
    print(_tracked, sum(birdfeed.stats().dropped.values()), flush=True)
