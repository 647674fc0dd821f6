"""Processes that exit without exit hooks: what the integrations send, and what is still lost.

These are the figures of the table in docs/how-to/handler.md.
"""

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from tests.support.producer.apps.run import APPS, ENDS, App, Server, arrives, environment, run
from tests.support.wait import eventually


def test_a_first_event_in_an_exit_hook(server: Server, env: dict[str, str]) -> None:
    """birdfeed's own hook was installed at import: a hook that is installed while others run is never called."""
    code, _, err = run("first_event_in_an_exit_hook", 5, "after import", env=env, script=ENDS)

    assert code == 0, err
    assert server.final_numbers() == list(range(5))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_in_a_with_block(server: Server, env: dict[str, str], method: str) -> None:
    """The end of the block kills the children; each event is in Redis before its task's result is returned."""
    code, _, err = run("pool_in_a_block", method, 10, env=env, script=ENDS)

    assert code == 0, err
    assert server.final_numbers() == list(range(10))


@pytest.mark.parametrize("worker", ["BirdfeedWorker", "BirdfeedSimpleWorker"])
def test_rq_jobs(server: Server, env: dict[str, str], worker: str) -> None:
    """The forking worker's child exits with os._exit."""
    code, _, err = run("rq_jobs", 10, worker, env=env, script=ENDS)

    assert code == 0, err
    assert server.final_numbers() == list(range(10))


@pytest.mark.parametrize("tasks_per_child", [1, 5])
def test_celery_children(server: Server, env: dict[str, str], tasks_per_child: int, tmp_path: Path) -> None:
    """Prefork children that exit after their tasks."""
    code = "from celery_app import work; [work.delay(number) for number in range(10)]"
    everything = {**environment(), **env}
    subprocess.run([sys.executable, "-c", code], cwd=APPS, env=everything, check=True)
    command = ["-m", "celery", "--app", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]
    with (tmp_path / "log").open("w") as log:
        celery = subprocess.Popen(
            [sys.executable, *command, "--max-tasks-per-child", str(tasks_per_child)],
            cwd=APPS,
            env={**everything, "C_FORCE_ROOT": "1"},
            stdout=log,
            stderr=log,
        )
        try:
            eventually(lambda: len(server.numbers()) >= 10, what=(tmp_path / "log").read_text() or "ten events")
        finally:
            celery.terminate()
            celery.wait(60)
    assert server.final_numbers() == list(range(10))


def test_a_serverless_process_is_frozen_between_invocations(server: Server, env: dict[str, str]) -> None:
    """As AWS Lambda does with SIGSTOP and SIGCONT: what was tracked is in Redis while it is frozen."""
    with App("serverless", 3, env=env, script=ENDS) as app:
        for number in range(3):
            app.say("invoke")
            assert app.line() == "done"
            app.signal(signal.SIGSTOP)
            assert server.numbers() == list(range(number + 1))
            app.signal(signal.SIGCONT)
        app.signal(signal.SIGKILL)
    assert server.final_numbers() == list(range(3))


def test_os_exit_loses_what_the_docs_say(server: Server, env: dict[str, str]) -> None:
    """A first event needs half a second, as everything is started then; after a second it is in Redis."""
    code, _, err = run("leaves_soon", 3, env=env, script=ENDS)

    assert code == 0, err
    assert server.final_numbers() == [0]


@pytest.mark.parametrize("mode", ["configure", "close"])
def test_a_thread_that_tracks_meanwhile_loses_nothing(server: Server, env: dict[str, str], mode: str) -> None:
    """While another thread configures birdfeed again or closes it, every event is sent or counted.

    Before the fix, 2,465 of 3,000 events were lost and not counted, or kept until the process exited.
    """
    code, out, err = run("configures_while_tracking", mode, 3_000, env=env, script=ENDS)

    assert code == 0, err
    assert out == "0 3000\n"
    assert server.final_numbers() == list(range(3_000))


def test_two_threads_that_fork(server: Server, env: dict[str, str]) -> None:
    """While a third thread tracks; neither a child nor the parent hangs, and every event is in Redis."""
    code, out, err = run("forks_in_two_threads", 8, env=env, script=ENDS)

    assert code == 0, err
    children = [*range(8), *range(1_000, 1_008)]
    arrives(server, [*children, *range(1_000_000, 1_000_000 + int(out))])


def test_uvicorn_reloads(server: Server, env: dict[str, str], tmp_path: Path) -> None:
    """Each change of a file restarts the serving process, which closes in order: nothing is lost."""
    program = tmp_path / "program.py"
    source = (
        "import birdfeed\n"
        "from birdfeed.integrations.asgi import BirdfeedMiddleware\n"
        "birdfeed.track_event('text_generation', {'model': 'm', 'request_id': '%d'})\n"
        "async def inner(scope, receive, send):\n"
        "    while True:\n"
        "        message = await receive()\n"
        "        await send({'type': message['type'] + '.complete'})\n"
        "        if message['type'] == 'lifespan.shutdown':\n"
        "            return\n"
        "app = BirdfeedMiddleware(inner)\n"
    )
    program.write_text(source % 0)
    command = [sys.executable, "-m", "uvicorn", "program:app", "--reload", "--port", "0", "--reload-dir", str(tmp_path)]
    everything = {**environment(), **env, "BIRDFEED_FLUSH_INTERVAL": "300"}
    with (tmp_path / "log").open("w") as log:
        uvicorn = subprocess.Popen(command, cwd=tmp_path, env=everything, stdout=log, stderr=log)
        try:
            eventually(lambda: "startup complete" in (tmp_path / "log").read_text(), what="it serves")
            program.write_text(source % 1)
            later = count(time.time() + 5)

            def is_seen() -> bool:
                # uvicorn first looks at the file 0.25 s after its start, and does not see an earlier change.
                os.utime(program, (at := next(later), at))
                return "Reloading" in (tmp_path / "log").read_text()

            eventually(is_seen, what="the change is seen")
            eventually(lambda: (tmp_path / "log").read_text().count("startup complete") == 2, what="it serves again")
            assert 0 in server.numbers()
        finally:
            uvicorn.terminate()
            uvicorn.wait(60)
    assert server.final_numbers() == [0, 1]
