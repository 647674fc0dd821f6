"""The command line as a program, without the user's settings; and all its commands."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from birdfeed_cli.app import app
from typer.main import get_command

BIRDFEED: Final = (sys.executable, "-c", "from birdfeed_cli.__main__ import main; main()")


def clean_environment() -> dict[str, str]:
    """This environment, with the sources, without birdfeed's settings."""
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BIRDFEED_", "TINYBIRD_", "REDIS"))
        },
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }


def birdfeed(
    *arguments: str, environment: Mapping[str, str], folder: Path, text: str | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it exits, with `text` as its standard input."""
    return subprocess.run(
        [*BIRDFEED, *arguments],
        input=text,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


#: These run until they are stopped, and print only what their settings contain; `demo` and `console` have their own
#: tests.
RUN_ON: Final = {("worker",), ("up",), ("demo",), ("console",)}


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, former names included."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
            return
        for name, one in inner.items():
            yield from walk(one, (*words, name))

    yield from walk(get_command(app), ())
