"""The sandbox as a process: the command line, how it starts, and each way it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from birdfeed_sandbox import Sandbox, SandboxError
from birdfeed_sandbox.cli import main
from birdfeed_sandbox.errors import StartError

from tests.support.wait import eventually

_DEADLINE = 60.0
_ROW = b'{"event_id": "a", "at": "2026-11-01T10:00:00Z"}'


def send(sandbox: Sandbox, *, timeout: float = 30) -> httpx.Response:
    headers = {"Authorization": f"Bearer {sandbox.append_token}"}
    url = f"{sandbox.url}/v0/events?name=events&wait=true"
    return httpx.post(url, content=_ROW, headers=headers, timeout=httpx.Timeout(30, read=timeout), trust_env=False)


def start(*options: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start the command, and wait until it answers."""
    port_file = Path(next(option for option in options if option.startswith("--port-file=")).partition("=")[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "birdfeed_sandbox", *options],
        env=environment,
        pass_fds=pass_fds,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    eventually(lambda: port_file.exists() or process.poll() is not None, what="it answers or ends", within=_DEADLINE)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_exits_cleanly_on_a_signal(project: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Status 0, nothing on stderr, its temporary rows deleted."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"], before = str(temporary), os.environ.get("TMPDIR")
    try:
        process = start(f"--project={project}", f"--port-file={tmp_path / 'port'}")
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
    assert len(list(temporary.iterdir())) == 1

    process.send_signal(number)
    out, err = process.communicate(timeout=_DEADLINE)

    assert (process.returncode, err.decode()) == (0, "")
    assert "for development and tests" in out.decode()
    assert f"127.0.0.1:{(tmp_path / 'port').read_text()}" in out.decode()
    assert list(temporary.iterdir()) == []


def test_it_exits_with_its_parent(project: Path, tmp_path: Path) -> None:
    """As soon as the other end of the pipe is closed, for any reason."""
    watched, held = os.pipe()
    process = start(
        f"--project={project}", f"--port-file={tmp_path / 'port'}", f"--parent-fd={watched}", pass_fds=(watched,)
    )
    os.close(watched)
    assert process.poll() is None

    os.close(held)
    _, err = process.communicate(timeout=_DEADLINE)

    assert (process.returncode, err.decode()) == (0, "")


def test_it_exits_though_a_request_hangs(project: Path) -> None:
    """It doesn't wait for the end of a fault."""
    with Sandbox(project=project) as sandbox:
        sandbox.fault(commit_then_hang=3600)
        with pytest.raises(httpx.ReadTimeout):
            send(sandbox, timeout=0.5)
        sandbox.fault(late_commit_seconds=3600, late_commit_status=504)
        assert send(sandbox).status_code in (504, 500)

        # It would be killed, with another status, if it didn't exit within 15 s.
        assert sandbox.stop() == 0


def test_rows_survive_a_stop_and_a_kill(project: Path, tmp_path: Path) -> None:
    """Same address, same rows."""
    with Sandbox(project=project, data_dir=tmp_path / "rows") as sandbox:
        url = sandbox.url
        assert send(sandbox).status_code == 200
        assert sandbox.stop() == 0
        sandbox.start()
        assert sandbox.sql("SELECT event_id FROM events") == [{"event_id": "a"}]
        sandbox.kill()
        with pytest.raises(httpx.TransportError):
            send(sandbox)
        sandbox.start()
        assert sandbox.url == url
        assert sandbox.sql("SELECT event_id FROM events") == [{"event_id": "a"}]


def test_a_changed_datafile_is_refused_with_old_rows(project: Path, tmp_path: Path) -> None:
    """The message names the table and what to do."""
    folder = tmp_path / "project"
    (folder / "datasources").mkdir(parents=True)
    datafile = folder / "datasources" / "x.datasource"
    datafile.write_text("SCHEMA >\n    `a` String `json:$.a`\n")
    with Sandbox(project=folder, data_dir=tmp_path / "rows"):
        pass

    datafile.write_text("SCHEMA >\n    `a` UInt8 `json:$.a`\n")
    with pytest.raises(StartError, match=r"the table x in .* was made from another datafile"):
        Sandbox(project=folder, data_dir=tmp_path / "rows").start()


def test_two_processes_do_not_share_a_data_directory(project: Path, tmp_path: Path) -> None:
    """The message names it, without a traceback."""
    with Sandbox(project=project, data_dir=tmp_path), pytest.raises(StartError, match="can't be opened") as caught:
        Sandbox(project=project, data_dir=tmp_path).start()

    assert str(tmp_path) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_without_the_extra_it_names_what_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "birdfeed_sandbox.http.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    assert main([f"--project={project}"]) == 1
    assert "uvicorn is missing: pip install 'birdfeed[sandbox]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("datasources/x.datasource", "SCHEMA >\n    a\n", "x.datasource:2: column a has no type"),
        ("datasources/x.datasource", "SCHEMA >\n    a Strin\n", "x.datasource: .*Strin"),
        ("endpoints/p.pipe", "NODE n\nSQL >\n    %\n    {{Strin(x)}}\nTYPE endpoint\n", "p.pipe:4: .*'Strin'"),
    ],
)
def test_a_wrong_datafile_is_one_sentence(project: Path, tmp_path: Path, file: str, text: str, message: str) -> None:
    """With file and line, and no traceback."""
    for folder in ("datasources", "endpoints"):
        (tmp_path / folder).mkdir()
    (tmp_path / "datasources" / "good.datasource").write_text("SCHEMA >\n    a String\n")
    (tmp_path / file).write_text(text)

    with pytest.raises(StartError, match=message) as caught:
        Sandbox(project=tmp_path).start()

    assert "Traceback" not in str(caught.value)
    assert "exit status 1" in str(caught.value)


def test_a_taken_port_is_one_sentence(process: Sandbox, project: Path) -> None:
    port = int(process.url.rpartition(":")[2])

    with pytest.raises(StartError, match="Address already in use") as caught:
        Sandbox(project=project, port=port).start()

    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_other_machines_have_access_only_with_an_option(
    project: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([f"--host={host}", f"--project={project}"])

    assert caught.value.code == 2
    assert "--allow-remote" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--requests-per-second=0"], ["--port=x"], ["--nonsense"]])
def test_a_wrong_option_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)

    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_folder_without_a_project_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--project={tmp_path}"]) == 1
    assert "there is no datasources/*.datasource" in capsys.readouterr().err


def test_the_help_describes_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "For development and tests, never for production" in text
    for option in ("--port", "--host", "--data-dir", "--project", "--token-dir", "--allow-host"):
        assert option in text


def test_a_sandbox_that_does_not_run_is_reported(project: Path) -> None:
    sandbox = Sandbox(project=project)

    for use in (sandbox.stop, sandbox.kill, sandbox.state, sandbox.reset, lambda: sandbox.pid, lambda: sandbox.url):
        with pytest.raises(StartError, match=r"is not running|start it first"):
            use()
    assert sandbox.output() == ""
    sandbox.close()


def test_a_running_sandbox_is_not_started_twice(process: Sandbox) -> None:
    with pytest.raises(SandboxError, match="already running"):
        process.start()
    assert process.pid > 0
