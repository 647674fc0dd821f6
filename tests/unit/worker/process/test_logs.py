"""Log lines with text from outside stay single lines."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from birdfeed_worker.process.logs import configure_first_logs, configure_logs, say_fatal
from birdfeed_worker.process.main import log_unknown

NAME = "m\x1b]52;c;aGk=\x07\n2026-11-01 [info] FORGED\u202e\x9b2J"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def written(log_format: Literal["console", "json"], capsys: pytest.CaptureFixture[str]) -> list[str]:
    configure_logs(log_format, "info")
    log: Any = logging.getLogger("birdfeed_worker.tests")
    log.warning("model %s", NAME, extra={"user": NAME})
    try:
        raise ValueError(NAME)
    except ValueError:
        log.exception("failed")
    return capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("root")
def test_a_console_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Newlines and control characters are escaped; a traceback's lines can't be mistaken for lines of the log."""
    lines = written("console", capsys)

    assert sum("model m␛]52" in line for line in lines) == 1
    assert not any(line.startswith("2026-11-01 [info] FORGED") for line in lines)
    assert all(line.startswith("    ") for line in lines[2:])
    assert "\x07" not in "".join(lines)
    assert "\u202e" not in "".join(lines)


@pytest.mark.usefixtures("root")
def test_json_is_complete_and_printable(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written("json", capsys)

    assert len(lines) == 2
    assert json.loads(lines[0])["user"] == NAME
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        (["birdfeed_worker"], {}, "no Redis is configured"),
        (["birdfeed_worker"], {"BIRDFEED_LOG_FORMAT": "json", "BIRDFEED_PROCESSES": "many"}, "BIRDFEED_PROCESSES"),
        (["birdfeed_worker.process.child", "w", "1"], {}, "no Redis is configured"),
    ],
)
def test_json_from_the_first_line(command: list[str], environment: dict[str, str], said: str, tmp_path: Path) -> None:
    """Also for a process that can't start, as its output is not a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, len(lines), lines[0]["level"]) == (2, 1, "critical")
    assert said in lines[0]["event"]


@pytest.mark.usefixtures("root")
def test_people_get_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, or if configured; an unknown format is not an error here."""
    for wanted, log_format in (("console", "console"), ("nonsense", "auto"), ("json", "json")):
        monkeypatch.setenv("BIRDFEED_LOG_FORMAT", wanted)
        assert configure_first_logs() == log_format
    say_fatal("console", ValueError("no"))
    assert capsys.readouterr().err == "birdfeed: no\n"


def test_a_misspelt_variable_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the most similar name, and never with its value."""
    log_unknown({"BIRDFEED_PROCESES": "hunter2", "BIRDFEED_FLUSH_INTERVAL": "1", "PATH": "/bin"})

    assert "BIRDFEED_PROCESES is not a birdfeed setting; did you mean BIRDFEED_PROCESSES?" in caplog.text
    assert caplog.text.count("not a birdfeed setting") == 1
    assert "hunter2" not in caplog.text
