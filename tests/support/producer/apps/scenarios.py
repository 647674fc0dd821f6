"""Programs that track events and then have a fault: `python scenarios.py NAME ARGUMENT...`.

Each is a separate process, like a user's program. They are configured only by environment variables, number their
events (request_id), and print what the test needs, one line at a time.
"""

import asyncio
import atexit
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import birdfeed


def track(first: int, count: int) -> None:
    for number in range(first, first + count):
        birdfeed.track_event(
            birdfeed.EventType("text_generation"), {"model": "m", "request_id": str(number), "prompt": "never stored"}
        )


def say(*words: object) -> None:
    print(*words, flush=True)


def wait_for_word() -> str:
    """Wait for a line from the test."""
    return sys.stdin.readline().strip()


def steadily(first: int, rate: float, until: Callable[[], bool]) -> int:
    """Track at a rate (events per second), printing each number and its time (monotonic s), until told to stop."""
    number = first
    while not until():
        track(number, 1)
        say(number, time.monotonic())
        number += 1
        time.sleep(1 / rate)
    return number


# ---- exits of a process


def exits(count: str) -> None:
    """Prints when it begins to exit."""
    track(0, int(count))
    say(time.monotonic())


def raises(count: str) -> None:
    track(0, int(count))
    raise RuntimeError("an unhandled exception")


def exits_from_a_thread(count: str) -> None:
    """The main thread finishes long before; the interpreter waits for the other one."""

    def late() -> None:
        time.sleep(0.3)
        track(0, int(count))

    threading.Thread(target=late).start()


def tracks_while_exiting(count: str) -> None:
    """In exit hooks that run before and after birdfeed's own, and in a __del__ at the end."""
    third = int(count) // 3
    atexit.register(track, 0, third)  # registered before birdfeed's hook, so it runs after it

    class Last:
        def __del__(self) -> None:
            track(third, third)

    birdfeed.start()
    atexit.register(track, 2 * third, third)
    sys.modules["last"] = Last()  # type: ignore[assignment]


def waits(count: str) -> None:
    """Tracks, and waits for a signal that kills it."""
    track(0, int(count))
    say("tracked")
    signal.pause()


def waits_with_a_handler(count: str) -> None:
    """A program that handles SIGTERM itself; birdfeed must not replace its handler."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    birdfeed.start()
    track(0, int(count))
    say("tracked")
    stop.wait(30)
    say("stopped by its own handler")


def runs_until_killed(rate: str) -> None:
    steadily(0, float(rate), lambda: False)


def leaves_by_os_exit(count: str) -> None:
    track(0, int(count))
    os._exit(0)


def is_serverless(count: str) -> None:
    """An invocation that flushes at its end, after which the process may never run again."""
    track(0, int(count))
    say(birdfeed.flush())
    os._exit(0)


# ---- forks


def forks(before: str, after: str, generations: str) -> None:
    """Tracks `before` events, forks, and tracks `after` in parent and child; children may fork again."""
    track(0, int(before))
    next_number = int(before)
    for _ in range(int(generations)):
        child = os.fork()
        if child:
            track(next_number + 1_000, int(after))
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        track(next_number, int(after))
        next_number += 10_000


def forks_without_hooks(count: str, first: str) -> None:
    """Forks as a server written in C may, such as uWSGI: no hook runs. `first` is what the child calls before all else.

    At the fork the parent has `count` events in Redis and as many in memory; the child tracks as many in two threads.
    """
    each = int(count)
    birdfeed.start()
    track(0, each)
    assert birdfeed.flush()
    track(each, each)
    say("ready")
    wait_for_word()  # meanwhile the flusher goes to sleep: a fork of C while a thread runs may hang Python in the child
    child = ctypes.PyDLL(None).fork()
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    if first == "exit":
        return
    calls: dict[str, Callable[[], object]] = {
        "track": lambda: True,
        "flush": birdfeed.flush,
        "close": birdfeed.close,
        "start": birdfeed.start,
        "stats": lambda: birdfeed.stats().tracked == 0,
        "configure": birdfeed.configure,
    }
    assert calls[first]() in {None, True}
    threads = [threading.Thread(target=track, args=(each * n, each)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert birdfeed.stats().tracked == 2 * each


def daemonizes(count: str) -> None:
    """As daemons do: fork twice, the first two exit immediately, the grandchild continues."""
    track(0, int(count))
    birdfeed.flush()
    if os.fork():
        os.wait()
        say("done")
        return
    if (grandchild := os.fork()) != 0:
        os.waitpid(grandchild, 0)
        os._exit(0)
    track(int(count), int(count))
    sys.exit(0)


def forks_while_starting(children: str) -> None:
    """Forks immediately after the first event, while the flusher's thread still imports what it needs."""
    pids = []
    for child in range(int(children)):
        track(child * 100, 1)
        pid = os.fork()
        if pid == 0:
            track(child * 100 + 50, 1)
            sys.exit(0)
        pids.append(pid)
        time.sleep(0.01)
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _child(first: int, count: int) -> None:
    track(first, count)


def uses_multiprocessing(method: str, count: str) -> None:
    """Children that exit without atexit hooks, started by fork, spawn or forkserver, and a pool's."""
    context: Any = multiprocessing.get_context(method)
    each = int(count)
    track(0, each)
    children = [context.Process(target=_child, args=(each * (1 + number), each)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    with context.Pool(2) as pool:
        pool.starmap(_child, [(each * 3, each), (each * 4, each)])
        pool.close()
        pool.join()


def mints(count: str) -> None:
    """A child's part of the test that ids are distinct after forks."""
    from uuid_utils import uuid7

    uuid7()
    pipes = []
    for _ in range(8):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                out.writelines(str(uuid7()) + "\n" for _ in range(int(count)))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    distinct: set[str] = set()
    for reading in pipes:
        with os.fdopen(reading) as ids:
            distinct.update(ids)
    say(len(distinct))


# ---- faults of Redis


def tracks_when_told(count: str) -> None:
    """Tracks `count` events for each line, flushes, and prints whether all were safe; exits at "end"."""
    number = 0
    say("ready")
    while (word := wait_for_word()) not in ("end", ""):
        track(number, int(count))
        number += int(count)
        say(birdfeed.flush() if word == "flush" else "tracked")


def tracks_steadily(rate: str) -> None:
    """Tracks at a rate until a line comes, then exits normally; prints how many it tracked."""
    told = threading.Event()

    def listen() -> None:
        wait_for_word()
        told.set()

    threading.Thread(target=listen, daemon=True).start()
    number = 0
    say("ready")
    while not told.is_set():
        track(number, 1)
        number += 1
        time.sleep(1 / float(rate))
    say(number)
    say(birdfeed.close())


def drains(seconds: str) -> None:
    """Starts birdfeed, which drains the spool, and waits."""
    birdfeed.start()
    say("ready")
    time.sleep(float(seconds))


# ---- event loops


def keeps_the_loop_free(count: str) -> None:
    """Prints the longest time (ms) that the event loop was blocked while events were tracked, including the first."""

    async def main() -> None:
        longest = 0.0
        done = False

        async def watch() -> None:
            nonlocal longest
            while not done:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before)

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0.1)
        longest = 0.0
        for number in range(int(count)):
            track(number, 1)
            await asyncio.sleep(0.001)
        safe = await birdfeed.aflush()
        done = True
        await watching
        say(safe, round(longest * 1000))

    asyncio.run(main())


def is_patched_by_gevent(count: str) -> None:
    from gevent import monkey

    monkey.patch_all()
    import gevent

    jobs = [gevent.spawn(track, first, 10) for first in range(0, int(count), 10)]
    gevent.joinall(jobs)
    deadline = time.monotonic() + 60
    while birdfeed.stats().enqueued < int(count) and time.monotonic() < deadline:
        gevent.sleep(0.01)
    say(birdfeed.stats().enqueued)
    track(int(count), 10)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
