"""`--watch`: q stops it, each view has its time, and a pipe gets one view after another."""

import os
import re
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.common import watch as module
from birdfeed_cli.common.watch import keys_of_terminal, watched
from birdfeed_cli.operate import status
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection
from rich.text import Text
from typer.testing import CliRunner

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", re.MULTILINE)


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pseudo-terminal where keys are typed; standard input is the other end."""
    pressing, terminal = os.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(pressing, "wb"):
        monkeypatch.setattr("sys.stdin", stdin)
        yield pressing


def test_q_stops_it_immediately(keyboard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only at the next view."""
    monkeypatch.setattr(module, "EVERY", 600.0)

    def view() -> Text:
        os.write(keyboard, b"xq")
        return Text("a view")

    assert watched(view) == 0


def test_other_keys_do_not(keyboard: int) -> None:
    """They are not shown, and the terminal is restored afterwards."""
    before = termios.tcgetattr(keyboard)

    with keys_of_terminal() as pressed:
        echo = termios.tcgetattr(keyboard)[3] & termios.ECHO
        os.write(keyboard, b"x\n")
        assert not pressed(0.05)
        os.write(keyboard, b"Q")
        assert pressed(600)

    assert not echo
    assert termios.tcgetattr(keyboard) == before


def test_a_pipe_gets_every_view(redis: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its time; a view that could not be read says so, and the next one is tried."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    views, read = list[str](), status.view

    def view(*known: Any) -> Any:
        views.append("")
        if len(views) == 2:
            raise NoConnection
        if len(views) == 4:
            raise KeyboardInterrupt
        return read(*known)

    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr("birdfeed_cli.operate.status.view", view)

    found = CliRunner().invoke(app, ["status", "--watch"])

    assert found.exit_code == 0
    assert len(STAMP.findall(found.stdout)) == 3
    assert found.stdout.count("birdfeed is") == 2
    assert found.stdout.count("Redis doesn't answer (ConnectionError); trying again") == 1
