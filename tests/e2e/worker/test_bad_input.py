"""Wrong input: one clear sentence, a counted outcome, an exit code, and no other event is lost."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System
from tests.support.wait import eventually


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        yield system


def line(**fields: object) -> str:
    return json.dumps({"event_type": "text_generation", "event_data": text(**fields)})


def says(done: subprocess.CompletedProcess[str]) -> str:
    """A command's output on one line; checks that it has no traceback."""
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_bad_lines_affect_no_other_line(system: System) -> None:
    """A broken line and lines that are not events are reported with their line numbers; a text of 20 MB is cut."""
    lines = [
        line(request_id="good-1"),
        '{"event_type": "text_gen',
        "[1, 2]",
        '{"event_data": {}}',
        '{"event_type": "text_generation"}',
        line(request_id="huge", user="x" * 20_000_000),
        line(request_id="long but fine", prompt="y" * 2_000_000),
        "",
        line(request_id="good-2"),
    ]

    done = system.run("send", "-", text="\n".join(lines) + "\n")

    said = says(done)
    assert done.returncode == 1
    assert "line 2: not JSON" in said
    assert "line 3: not an object like" in said
    assert "line 4: event_type is missing" in said
    assert "line 5: event_data is missing" in said
    assert "8 events read, 4 accepted" in said
    assert "2 refused: broken_line" in said
    system.start_pool(1)
    system.drained()
    assert set(system.rows()) == {"good-1", "good-2", "huge", "long but fine"}
    assert system.sandbox.sql("SELECT request_id FROM llm_events FINAL WHERE truncated") == [{"request_id": "huge"}]
    assert system.ledger() == {"accepted:text_generation": 4, "written:text_generation": 4}


def test_a_file_with_a_byte_order_mark(system: System, tmp_path: Path) -> None:
    """As editors on Windows write it: the first event is read like the others."""
    file = tmp_path / "events.ndjson"
    file.write_text(line(request_id="first") + "\n" + line(request_id="second") + "\n", encoding="utf-8-sig")

    done = system.run("send", str(file))

    assert (done.returncode, says(done)) == (0, "2 events read, 2 accepted")


def test_send_without_redis(system: System) -> None:
    """Nothing is read from the file before Redis answers."""
    system.environment["BIRDFEED_REDIS_URL"] = f"redis://:secret@127.0.0.1:{free_port()}/0"

    done = system.run("send", "-", text=line())

    assert done.returncode == 3
    assert "Connection refused); is it running? `birdfeed up` starts one" in says(done)
    assert "secret" not in done.stderr


def test_send_a_missing_file(system: System) -> None:
    """The file's name and the reason."""
    done = system.run("send", "no-such-file.ndjson")

    assert (done.returncode, says(done)) == (2, "birdfeed: can't read no-such-file.ndjson: No such file or directory")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TINYBIRD_TOKEN", "", "TINYBIRD_TOKEN is not set; set it to a token with APPEND scope"),
        ("TINYBIRD_HOST", "", "TINYBIRD_HOST is not set; set it to your workspace's API host"),
        ("TINYBIRD_HOST", "http://example.com", "uses http, which is allowed for this machine only; use https"),
        ("TINYBIRD_HOST", "api.tinybird.co", "TINYBIRD_HOST must be a URL such as https://api.us-east.tinybird.co"),
        ("BIRDFEED_REDIS_URL", "localhost:6379", "a Redis URL starts with redis://"),
        ("BIRDFEED_PROCESSES", "many", "BIRDFEED_PROCESSES: Input should be a valid integer"),
        ("BIRDFEED_PRICE_BOOK", "nowhere.toml", "nowhere.toml:1: can't be read: No such file or directory"),
        ("BIRDFEED_TIERS", "ldap://x", "BIRDFEED_TIERS must be redis:<hash key>, file:<path>"),
    ],
)
def test_a_worker_with_wrong_settings_names_them(system: System, name: str, value: str, expected: str) -> None:
    """Immediately, in one sentence, exit code 2; no child is restarted."""
    system.environment[name] = value

    done = system.run("worker", "--processes", "1")

    assert done.returncode == 2
    assert expected in says(done)


def test_a_wrong_token_pauses_and_is_logged(system: System) -> None:
    """403: nothing is lost, no attempt is counted, the log names the reason without the token.

    A right token is enough.
    """
    good = system.environment["TINYBIRD_TOKEN"]
    system.environment["TINYBIRD_TOKEN"] = "p.a-token-that-is-wrong-and-must-not-be-shown"
    pool = system.start_pool(1)
    system.run("send", "-", text=line(request_id="r1"))
    eventually(lambda: "llm_events: paused: HTTP 403" in system.said(), what="the pause is in the log")
    assert system.dead() == []
    assert "must-not-be-shown" not in system.said()
    pool.terminate()
    pool.wait(60)

    system.environment["TINYBIRD_TOKEN"] = good
    system.start_pool(1)

    system.drained()
    assert system.rows() == {"r1": 1}


def test_an_unreachable_host_is_waited_for(system: System) -> None:
    """No connection: nothing was written, the jobs wait, the log says so."""
    system.environment["TINYBIRD_HOST"] = f"http://127.0.0.1:{free_port()}"
    system.start_pool(1)
    system.run("send", "-", text=line(request_id="r1"))

    eventually(lambda: "ConnectError" in system.said(), what="the failed connection is in the log")

    assert system.waiting() == 1
    assert system.dead() == []


def test_price_names_what_is_wrong_with_a_line(system: System) -> None:
    """One line of output for each line of input; bad lines on standard error with their number."""
    done = system.run("prices", "estimate", "--json", text="{\n" + line() + "\n")

    assert done.returncode == 1
    assert "line 1: not JSON" in done.stderr
    assert json.loads(done.stdout.splitlines()[1])["cost"] == "0.0003"


def test_birdfeed_imports_beside_an_apps_own_modules(system: System, tmp_path: Path) -> None:
    """An app with its own schemas.py, worker.py and producer.py: they don't replace birdfeed's, nor disturb them."""
    for name in ("schemas", "worker", "producer", "events", "settings"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('birdfeed imported the app')\n")

    done = subprocess.run(
        [sys.executable, "-c", "import birdfeed, birdfeed_worker.process.bootstrap, sys; assert 'rq' in sys.modules"],
        cwd=tmp_path,
        env=system.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
