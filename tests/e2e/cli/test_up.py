"""`birdfeed up`: everything on one machine, with one command; no process is left when it stops."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.support.commands import BIRDFEED, clean_environment
from tests.support.events import text
from tests.support.servers.processes import ended
from tests.support.wait import eventually

CLEAN = clean_environment()


@contextmanager
def up(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """`birdfeed up` and the environment it prints."""
    process = subprocess.Popen(
        [*BIRDFEED, "up", "--processes", "1"],
        cwd=folder,
        env={**CLEAN, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        umask=0o022,
    )
    with process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, f"it ended: {said}"
            said += line
        yield process, {**CLEAN, **dict(re.findall(r"export (\w+)=(\S+)", said))}
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(120) == 0


def send(environment: dict[str, str], request_id: str) -> None:
    line = json.dumps({"event_type": "text_generation", "event_data": text(request_id=request_id)})
    subprocess.run([*BIRDFEED, "send", "-"], input=line, text=True, env=environment, check=True, capture_output=True)


def ledger(environment: dict[str, str]) -> dict[bytes, bytes]:
    with Redis.from_url(environment["BIRDFEED_REDIS_URL"]) as client:
        found: dict[bytes, bytes] = client.hgetall("rq:birdfeed:birdfeed:ledger")
        return found


def answers(environment: dict[str, str]) -> bool:
    try:
        ledger(environment)
    except RedisError:
        return False
    return True


def test_a_restart_has_the_same_data(tmp_path: Path) -> None:
    """Ctrl-C stops it with exit code 0; the next start has the same rows, tokens, ports and counts."""
    with up(tmp_path) as (_, before):
        send(before, "first")
        eventually(lambda: ledger(before).get(b"written:text_generation") == b"1", what="it is written")
    with up(tmp_path) as (_, environment):
        assert environment == before
        assert ledger(environment)[b"written:text_generation"] == b"1"
        second = subprocess.run([*BIRDFEED, "up"], cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "another birdfeed uses" in second.stderr


def test_an_unusable_folder_is_refused(tmp_path: Path) -> None:
    """A file, a folder below a file, a folder that can't be created: one sentence with the path and the reason."""
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "lock").mkdir(parents=True)
    for folder in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), str(tmp_path / "taken"), "/proc/zz"):
        done = subprocess.run(
            [*BIRDFEED, "up", "--data-dir", folder],
            cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"can't keep data in {folder}: " in done.stderr
        assert "Traceback" not in done.stderr


def test_other_users_of_the_machine_have_no_access(tmp_path: Path) -> None:
    """Only the owner can read its files, Redis needs a password, and no process has a secret in its arguments."""
    (tmp_path / ".birdfeed").mkdir()
    (tmp_path / ".birdfeed").chmod(0o755)
    with up(tmp_path) as (_, environment):
        send(environment, "first")
        eventually(lambda: ledger(environment).get(b"written:text_generation") == b"1", what="it is written")
        url = urlsplit(environment["BIRDFEED_REDIS_URL"])
        assert url.password is not None
        with Redis(port=url.port or 0) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        found = [tmp_path / ".birdfeed", *(tmp_path / ".birdfeed").rglob("*")]
        assert [path for path in found if path.stat().st_mode & 0o077] == []
        arguments = b"\n".join(arguments_of_all())
        tokens = [path.read_text() for path in found if path.suffix == ".token"]
        assert len(tokens) == 3
        assert str(tmp_path).encode() in arguments
        for secret in (url.password, *tokens):
            assert secret.encode() not in arguments


def arguments_of_all() -> list[bytes]:
    """The arguments of every process, as `ps` shows them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has exited meanwhile
            found.append(path.read_bytes())
    return found


def test_after_a_kill_the_next_start_works(tmp_path: Path) -> None:
    """kill -9: workers and sandbox exit by themselves, and the next start continues with Valkey's data."""
    with up(tmp_path) as (process, environment):
        send(environment, "first")
        eventually(lambda: ledger(environment).get(b"written:text_generation") == b"1", what="it is written")
        workers = [int(w) for w in re.findall(r"'pid': b?'?(\d+)", str(pids(environment)))]
        server = run_id(environment)
        process.kill()
        process.wait()
    eventually(lambda: all(ended(pid) for pid in workers), what="the workers are gone")

    with up(tmp_path) as (_, again):
        assert ledger(again)[b"written:text_generation"] == b"1"
        assert run_id(again) != server
        assert again["BIRDFEED_REDIS_URL"] == environment["BIRDFEED_REDIS_URL"] or not answers(environment)


def run_id(environment: dict[str, str]) -> str:
    """The run id of the Valkey process."""
    with Redis.from_url(environment["BIRDFEED_REDIS_URL"]) as client:
        return str(client.info("server")["run_id"])


def pids(environment: dict[str, str]) -> list[dict[str, str]]:
    """The workers' process ids."""
    with Redis.from_url(environment["BIRDFEED_REDIS_URL"], decode_responses=True) as client:
        return [{"pid": str(client.hget(str(key), "pid"))} for key in client.smembers("rq:workers")]
