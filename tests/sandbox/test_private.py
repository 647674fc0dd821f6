"""Other users of the machine, and web pages in the developer's browser, have no access."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.cli import main, parser
from birdfeed_sandbox.settings import TOKENS, token_of, token_variable
from birdfeed_schemas.safety.private_files import private_folder


def raw(url: str, *headers: str) -> int:
    """The status of a request whose headers no library checks."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        lines = ["GET /v0/sql?q=SELECT+1 HTTP/1.1", *headers, "Connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: 127.0.0.1"], 200),
        (["Host: 127.0.0.1:7181"], 200),
        (["Host: localhost:1"], 200),
        (["Host: LOCALHOST"], 200),
        (["Host: [::1]:7181"], 200),
        (["Host: 127.0.0.1:1", "Origin: http://127.0.0.1:1"], 200),
        (["Host: rebound.example.org:7181"], 403),
        (["Host: localhost.example.org"], 403),
        (["Host: 127.0.0.1.example.org"], 403),
        (["Host: user@rebound.example.org"], 403),
        (["Host: [::1"], 403),
        (["Host: 127.0.0.1", "Origin: https://example.org"], 403),
        (["Host: 127.0.0.1", "Origin: null"], 403),
        (["Host: 127.0.0.1", "Origin: http://127.0.0.1:9"], 403),
        (["Host: localhost", "Origin: http://rebound.example.org"], 403),
    ],
)
def test_a_web_page_is_refused(tinybird: Sandbox, headers: list[str], status: int) -> None:
    """By DNS rebinding and across sites, even with a token."""
    assert raw(tinybird.url, *headers, f"Authorization: Bearer {tinybird.read_token}") == status


def test_a_host_name_can_be_allowed(project: Path, tmp_path: Path) -> None:
    """For a sandbox in a container, reached by its name."""
    watched, held = os.pipe()
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "birdfeed_sandbox", f"--project={project}", f"--port-file={port_file}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), token_variable("read"): "r"}
    with subprocess.Popen(
        [*command, f"--parent-fd={watched}", "--allow-host=Tinybird"],
        env=environment,
        pass_fds=(watched,),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().rstrip().rpartition(" ")[2]
        statuses = [raw(address, f"Host: {name}", "Authorization: Bearer r") for name in ("tinybird:80", "other")]
        os.close(held)
        said = process.stdout.read()
    os.close(watched)

    assert statuses == [200, 403]
    assert "read token" not in said
    assert "append token: p.sandbox-append-" in said


def test_no_option_is_a_token() -> None:
    """Every user of the machine can read a process's arguments."""
    options = parser().format_help()

    for kind in TOKENS:
        assert f"--{kind}-token" not in options
        assert token_variable(kind) in " ".join(options.split())


def test_tokens_are_in_no_argument(process: Sandbox) -> None:
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()

    for token in (process.append_token, process.read_token, process.admin_token):
        assert token.encode() not in arguments


def test_tokens_are_new_each_time(tmp_path: Path) -> None:
    """Unless a folder or the environment has them."""
    folder = tmp_path / "tokens"
    kept = [token_of(kind, {}, folder) for kind in TOKENS]

    assert len({token_of("read", {}, None) for _ in range(3)} | {Sandbox().read_token}) == 4
    assert [token_of(kind, {}, folder) for kind in TOKENS] == kept
    assert token_of("read", {token_variable("read"): "mine"}, folder) == "mine"
    assert token_of("read", {token_variable("read"): ""}, folder) == kept[1]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_only_their_user_can_read_rows(project: Path, tmp_path: Path) -> None:
    """With any umask: folders 0700, files 0600."""
    folder = tmp_path / "rows"
    before = os.umask(0)
    try:
        with Sandbox(project=project, data_dir=folder) as sandbox:
            httpx.post(
                f"{sandbox.url}/v0/events?name=events&wait=true",
                content=b'{"event_id": "a", "at": "2026-11-01T10:00:00Z"}',
                headers={"Authorization": f"Bearer {sandbox.append_token}"},
                trust_env=False,
            ).raise_for_status()
            found = [path for path in [folder, *folder.rglob("*")] if not path.is_symlink()]
            open_to_others = [path for path in found if path.stat().st_mode & 0o077]
    finally:
        os.umask(before)

    assert len(found) > 10
    assert open_to_others == []


def test_a_folder_that_others_may_open(tmp_path: Path) -> None:
    """Its mode is changed if it is empty or was made by the sandbox.

    With other files in it, it is refused in a sentence.
    """
    empty, ours, theirs = tmp_path / "empty", tmp_path / "ours", tmp_path / "theirs"
    for folder in (empty, ours, theirs):
        folder.mkdir()
        folder.chmod(0o755)
    (ours / "lock").touch()
    (theirs / "page.html").touch()

    private_folder(empty, ours="lock")
    private_folder(ours, ours="lock")
    private_folder(tmp_path / "new" / "below", ours="lock")
    with pytest.raises(PermissionError, match="chmod 700"):
        private_folder(theirs, ours="lock")

    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (empty, ours, theirs)] == [0o700, 0o700, 0o755]
    assert stat.S_IMODE((tmp_path / "new" / "below").stat().st_mode) == 0o700


def test_rows_are_not_kept_in_a_folder_of_another_user(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "page.html").touch()

    assert main([f"--project={project}", f"--data-dir={tmp_path}"]) == 1
    assert "other users of this machine may enter it" in capsys.readouterr().err
