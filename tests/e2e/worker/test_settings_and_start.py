"""A pool that can't start, or can't start yet: one clear line each, and no traceback."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.producer.apps.run import Server
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System
from tests.support.wait import eventually


@pytest.fixture
def nowhere(sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """A system whose Redis doesn't run."""
    with System(f"redis://:secret@127.0.0.1:{free_port()}/0", sandbox, tmp_path) as system:
        yield system


def test_started_while_redis_is_away(nowhere: System) -> None:
    """One line says what it waits for, without the password; SIGTERM stops it with exit code 0."""
    pool = nowhere.start_pool(2, wait=False)
    eventually(lambda: "waiting for Redis at redis://***@127.0.0.1:" in nowhere.said(), what="it says so")

    pool.terminate()

    assert pool.wait(30) == 0
    lines = [line for line in nowhere.said().splitlines() if "Redis" in line]
    assert len(lines) == 1
    assert "Traceback" not in nowhere.said()
    assert "secret" not in nowhere.said()


def test_redis_starts_after_the_pool(sandbox: Sandbox, tmp_path: Path) -> None:
    """Delivery begins as soon as Redis runs."""
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        redis.stop()
        system.start_pool(1, wait=False)
        eventually(lambda: "waiting for Redis" in system.said(), what="it waits")
        redis.start()
        eventually(lambda: system.workers(), what="a worker is registered")
        system.send([("text_generation", text(request_id="r0"))])
        system.drained()

        assert system.rows() == {"r0": 1}
        assert "Traceback" not in system.said()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TINYBIRD_TOKEN", "p.abc\u200bdef", "TINYBIRD_TOKEN: character 6 of the token is U+200B (ZERO WIDTH SPACE)"),
        ("TINYBIRD_TOKEN", "p.abc\ndef", "TINYBIRD_TOKEN: character 6 of the token is U+000A"),
        ("TINYBIRD_READ_TOKEN_FILE", "/nonexistent/token", "TINYBIRD_READ_TOKEN and TINYBIRD_READ_TOKEN_FILE are both"),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "SSL_CERT_FILE"),
        ("ALL_PROXY", "socks5://127.0.0.1:1", "socksio"),
        ("NO_PROXY", "[::1", "NO_PROXY"),
    ],
)
def test_settings_that_cannot_work(nowhere: System, name: str, value: str, said: str) -> None:
    """Exit code 2 and one sentence, before it connects to Redis."""
    nowhere.environment[name] = value
    done = nowhere.run("worker")

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "abc" not in done.stderr


def test_a_cluster_is_refused_in_one_sentence(sandbox: Sandbox, tmp_path: Path) -> None:
    """At the start, not in the middle of a script."""
    from tests.support.servers.redis_servers import valkey

    with valkey(tmp_path / "valkey", **{"cluster-enabled": "yes"}) as url, System(url, sandbox, tmp_path) as system:
        done = system.run("worker")

    assert done.returncode == 2
    assert "this Redis is a Cluster, which is not supported" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_workers_that_keep_exiting_are_named(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each is killed as soon as it starts."""
    with Server(tmp_path / "valkey") as redis, System(redis.url, sandbox, tmp_path) as system:
        system.start_pool(2)
        killed: set[int] = set()

        def kill() -> bool:
            for pid in set(system.workers().values()) - killed:
                killed.add(pid)
                subprocess.run(["kill", "-9", str(pid)], check=False, env=os.environ)
            return len(killed) >= 6

        eventually(kill, what="six workers were killed")
        eventually(lambda: "workers keep exiting" in system.run("status").stdout, what="status says so", within=15)
