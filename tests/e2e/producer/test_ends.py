"""Processes exit, fork and are killed: every event is in Redis once, or lost within the documented limits."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.producer.apps.run import App, Server, arrives, run
from tests.support.wait import eventually


@pytest.mark.parametrize(
    ("scenario", "code"), [("exits", 0), ("raises", 1), ("exits_from_a_thread", 0), ("tracks_while_exiting", 0)]
)
def test_a_process_that_exits_sends_everything(server: Server, env: dict[str, str], scenario: str, code: int) -> None:
    """Immediately after tracking, by an exception, from its last thread; also events tracked in exit hooks."""
    returned, _, err = run(scenario, 999, env=env)

    assert returned == code, err
    assert server.final_numbers() == list(range(999))


def test_a_process_that_exits_while_redis_is_away_leaves_its_events_in_the_spool(tmp_path: Path) -> None:
    """The next process on the host sends them."""
    server = Server(tmp_path / "valkey")
    env = {"BIRDFEED_REDIS_URL": server.url, "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool")}
    code, out, err = run("exits", 1000, env={**env, "BIRDFEED_CLOSE_TIMEOUT": "5"})
    assert code == 0, err
    assert time.monotonic() - float(out) < 5 + 5

    with server, App("drains", 300, env=env) as drainer:
        drainer.line()
        arrives(server, list(range(1000)))
        assert not any(server.retried())


def test_sigterm_with_the_hook_sends_everything(server: Server, env: dict[str, str]) -> None:
    """The program has no handler of its own; the exit code is what SIGTERM gives."""
    with App("waits", 500, env={**env, "BIRDFEED_SIGTERM_HOOK": "true", "BIRDFEED_FLUSH_INTERVAL": "60"}) as app:
        app.line()
        eventually(lambda: _handles_sigterm(app.pid), what="the hook is installed")
        app.signal(signal.SIGTERM)
        assert app.ended()[0] == 128 + signal.SIGTERM

    assert server.final_numbers() == list(range(500))


def test_sigterm_with_a_handler_of_the_programs_own(server: Server, env: dict[str, str]) -> None:
    """birdfeed doesn't replace it, with its hook or without, and everything is sent at exit."""
    with App("waits_with_a_handler", 500, env={**env, "BIRDFEED_SIGTERM_HOOK": "true"}) as app:
        app.line()
        app.signal(signal.SIGTERM)
        code, out, _ = app.ended()

    assert (code, out) == (0, "stopped by its own handler\n")
    assert server.final_numbers() == list(range(500))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_loses_no_more_than_the_last_flush_interval(
    server: Server, env: dict[str, str], number: signal.Signals
) -> None:
    """SIGKILL, and SIGTERM without a handler: what was tracked 0.2 s and a round trip before is in Redis."""

    def seconds_lost() -> float:
        with server.client() as client:
            client.flushall()
        with App("runs_until_killed", 300, env=env) as app:
            tracked = dict(_numbered(app.line()) for _ in range(300))
            app.signal(number)
            killed_at = time.monotonic()
            tracked |= dict(_numbered(line) for line in app.ended()[1].splitlines() if len(line.split()) == 2)
        there = set(server.numbers())
        assert there <= tracked.keys() | {max(tracked) + 1}
        return max((killed_at - at for event, at in tracked.items() if event not in there), default=0.0)

    # 200 ms of the interval, and a round trip.
    assert best_of_three(seconds_lost, 0.2 + 0.3) < 0.2 + 0.3


def test_a_kill_loses_nothing_with_durability_spool(server: Server, env: dict[str, str]) -> None:
    """Every event track_event returned from is sent by the next process, once."""
    env |= {"BIRDFEED_DURABILITY": "spool", "BIRDFEED_SPOOL_WAIT": "60"}
    with App("runs_until_killed", 300, env=env) as app:
        tracked = [_numbered(app.line())[0] for _ in range(200)]
        app.signal(signal.SIGKILL)
        tracked += [_numbered(line)[0] for line in app.ended()[1].splitlines() if len(line.split()) == 2]

    with App("drains", 300, env=env) as drainer:
        drainer.line()
        # A batch that the killed process was sending is free when its lease has expired.
        eventually(lambda: set(tracked) <= set(server.numbers()), what="every tracked event", within=120)
    assert set(server.numbers()) <= set(tracked) | {max(tracked) + 1}


@pytest.mark.parametrize("scenario", ["leaves_by_os_exit", "is_serverless"])
def test_os_exit_loses_nothing_with_durability_spool_or_after_a_flush(
    server: Server, env: dict[str, str], scenario: str
) -> None:
    """os._exit runs no hooks at all."""
    if scenario == "leaves_by_os_exit":
        env |= {"BIRDFEED_DURABILITY": "spool", "BIRDFEED_SPOOL_WAIT": "60"}
    code, out, err = run(scenario, 300, env=env)
    assert code == 0, err
    if scenario == "is_serverless":
        assert out == "True\n"
        assert server.final_numbers() == list(range(300))

    with App("drains", 300, env=env) as drainer:
        drainer.line()
        arrives(server, list(range(300)), within=120)


@pytest.mark.parametrize(
    ("before", "generations"), [(0, 1), (500, 1), (500, 3)], ids=["before use", "after use", "thrice"]
)
def test_forks(server: Server, env: dict[str, str], before: int, generations: int) -> None:
    """The child has a buffer and a flusher of its own; the parent's events are sent by the parent only."""
    code, _, err = run("forks", before, 200, generations, env={**env, "BIRDFEED_FLUSH_INTERVAL": "30"})

    assert code == 0, err
    expected = list(range(before))
    for generation in range(generations):
        start = before + 10_000 * generation
        expected += list(range(start, start + 200)) + list(range(start + 1_000, start + 1_200))
    assert server.final_numbers() == sorted(expected)


@pytest.mark.parametrize("first", ["track", "flush", "close", "start", "stats", "configure", "exit"])
def test_a_fork_without_hooks(server: Server, env: dict[str, str], first: str) -> None:
    """It is noticed at the first call in the child, whichever that is; also where there is none until the exit."""
    with App("forks_without_hooks", 100, first, env={**env, "BIRDFEED_FLUSH_INTERVAL": "30"}) as app:
        assert app.line() == "ready"
        app.say("fork")
        code, _, err = app.ended()

    assert code == 0, err
    assert server.final_numbers() == list(range(200 if first == "exit" else 400))


def test_a_double_fork(server: Server, env: dict[str, str]) -> None:
    """As daemons do; the first two processes exit without exit hooks."""
    code, _, err = run("daemonizes", 300, env=env)

    assert code == 0, err
    arrives(server, list(range(600)))


def test_forks_while_the_flusher_is_starting(server: Server, env: dict[str, str]) -> None:
    """A fork in the middle of the flusher's imports would leave the child waiting for ever."""
    code, _, err = run("forks_while_starting", 12, env=env)

    assert code == 0, err
    assert server.final_numbers() == sorted(100 * child + offset for child in range(12) for offset in (0, 50))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children(server: Server, env: dict[str, str], method: str) -> None:
    """They run no exit hooks of the interpreter, and neither do a pool's."""
    code, _, err = run("uses_multiprocessing", method, 100, env=env)

    assert code == 0, err
    assert server.final_numbers() == list(range(500))


def test_ids_are_distinct_after_forks(env: dict[str, str]) -> None:
    """Eight children of a parent that had already created ids create 100,000 ids each."""
    _, out, _ = run("mints", 100_000, env=env)

    assert out == "800000\n"


def test_the_event_loop_is_not_blocked(server: Server, env: dict[str, str]) -> None:
    """Not even by the first event, although the flusher then imports many modules in the same interpreter."""

    def longest() -> float:
        with server.client() as client:
            client.flushall()
        code, out, err = run("keeps_the_loop_free", 500, env=env)
        assert code == 0, err
        safe, milliseconds = out.split()
        assert safe == "True"
        assert server.final_numbers() == list(range(500))
        return int(milliseconds)

    assert best_of_three(longest, 100) < 100


def test_the_event_loop_is_not_blocked_by_a_redis_that_hangs(server: Server, env: dict[str, str]) -> None:
    """It accepts bytes and never answers; the events are in the spool."""

    def longest() -> float:
        with server.client() as client:
            client.flushall()
        with server.frozen():
            _, out, err = run("keeps_the_loop_free", 1500, env=env)
        safe, milliseconds = out.split()
        assert safe == "True", err
        with App("drains", 300, env=env) as drainer:
            drainer.line()
            arrives(server, list(range(1500)), within=120)
        return int(milliseconds)

    assert best_of_three(longest, 100) < 100


def test_gevent(server: Server, env: dict[str, str]) -> None:
    """Everything monkey-patched: the flusher is a greenlet and sends while other greenlets run."""
    code, out, err = run("is_patched_by_gevent", 500, env=env)

    assert code == 0, err
    assert out == "500\n"
    assert server.final_numbers() == list(range(510))


def best_of_three(measure: Callable[[], float], enough: float) -> float:
    """The least of up to three measurements; no more are made once one is below `enough`.

    Other load on the machine makes such times longer, never shorter; slow code is slow each time.
    """
    least = measure()
    for _ in range(2):
        if least < enough:
            break
        least = min(least, measure())
    return least


def _numbered(line: str) -> tuple[int, float]:
    number, at = line.split()
    return int(number), float(at)


def _handles_sigterm(pid: int) -> bool:
    if not os.path.exists(f"/proc/{pid}/status"):
        return sys.platform != "linux"  # macOS: can't be read; the flusher has had its time by then
    with open(f"/proc/{pid}/status") as status:
        caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & (1 << (signal.SIGTERM - 1)))
