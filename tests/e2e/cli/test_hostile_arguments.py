"""Every option and argument of every command is given hostile values: an answer or a sentence, never a traceback."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_sandbox.process import Sandbox
from typer.testing import CliRunner

from tests.support.commands import RUN_ON, commands

VALUES = (
    *("", "0", "-1", "1e309", "9" * 40, "nan", "999999w", "2026-02-30", "9999-12-31T23:59:59+14:00", "0001-01-01"),
    *("\N{GRINNING FACE}", "\u0663", "x" * 70_000, "../../etc/passwd", "/dev/null", "/", "=", "a=b=c", "[red]", "%s"),
    *("-", "caf\udce9", "invalid", "gpt-4o", "text_generation", "1,5", ","),
)


def calls(command: Any) -> Iterator[list[str]]:
    """Its arguments, with one that is hostile."""
    options = [one for one in command.params if one.param_type_name == "option" and not one.is_flag]
    needed = ["gpt-4o"] if any(one.param_type_name == "argument" for one in command.params) else []
    for value in VALUES:
        yield from ([f"{option.opts[0]}={value}", *needed] for option in options)
        if needed:
            yield ["--", value]


@pytest.mark.slow
def test_no_argument_ends_a_command_with_a_traceback(
    valkey_url: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("BIRDFEED_", "TINYBIRD_")) or name == "REDIS_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("BIRDFEED_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("TINYBIRD_HOST", sandbox.url)
    monkeypatch.setenv("TINYBIRD_TOKEN", sandbox.append_token)
    monkeypatch.setenv("TINYBIRD_READ_TOKEN", sandbox.read_token)
    wrong = []
    for words, command in commands():
        for arguments in () if words in RUN_ON else calls(command):
            done: Any = CliRunner().invoke(app, [*words, *arguments], input="{}\n")
            if not isinstance(done.exception, SystemExit | None):
                wrong.append((words, [one[:60] for one in arguments], repr(done.exception)[:200]))

    assert wrong == []
