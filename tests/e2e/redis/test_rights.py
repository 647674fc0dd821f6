"""Redis users with few rights: those in docs/how-to/operator.md are enough, and a missing one is named."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox
from redis import Redis

from tests.support.events import text
from tests.support.repository import DOCS
from tests.support.servers.redis_servers import valkey
from tests.support.servers.system import System
from tests.support.wait import eventually


@pytest.fixture(params=["with INFO", "without INFO"])
def rights(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A Valkey with the two users of the docs; its URL without a user."""
    with valkey(tmp_path / "valkey") as url:
        with Redis.from_url(url) as admin:
            for line in re.findall(
                r"^    ACL SETUSER (.*)$", (DOCS / "how-to" / "operator.md").read_text(), re.MULTILINE
            ):
                user = [word for word in line.split() if word != "+info" or request.param == "with INFO"]
                admin.execute_command("ACL", "SETUSER", *user)
        yield url


def as_user(url: str, name: str) -> str:
    return url.replace("redis://", f"redis://{name}:PASSWORD@")


def test_the_least_rights_are_enough(rights: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Delivery, an unknown outcome, a killed worker, dead letters and their replay, and each command."""
    with System(rights, sandbox, tmp_path) as system:
        system.environment["BIRDFEED_REDIS_URL"] = as_user(rights, "birdfeed-worker")
        pool = system.start_pool(2)
        system.environment["BIRDFEED_REDIS_URL"] = rights  # events are sent by a producer, which has its own rights
        good = [("text_generation", text(request_id=f"r{number}")) for number in range(50)]
        sandbox.fault(on="events", status=500, times=1)
        system.send([*good, ("text_generation", {"request_id": "bad"})])
        system.drained()
        system.kill_a_worker()
        eventually(lambda: len(system.workers()) == 2, what="another worker has come")
        system.send([("text_generation", text(request_id="r50"))])
        system.drained()

        system.environment["BIRDFEED_REDIS_URL"] = as_user(rights, "birdfeed-operator")
        for command in (
            ("dead", "list"),
            ("dead", "replay", "--reason", "invalid", "--no-canary", "--set", "model=openai"),
            ("resume",),
            ("dead", "log"),
            ("metrics",),
            ("ledger",),
        ):
            done = system.run(*command)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            system.drained()
        status = system.run("status")
        assert status.returncode == 0, status.stdout
        assert system.rows()["bad"] == 1
        assert sum(system.rows().values()) == 52
        pool.terminate()
        assert pool.wait(60) == 0
        denied = {entry["object"] for entry in system.redis.acl_log() if entry["reason"] == "command"}
    assert denied <= {"client|setname", "client|setinfo", "client|info", "client|list", "config|get", "info"}
    assert "Traceback" not in system.said()


def test_a_missing_right_is_named(tmp_path: Path, sandbox: Sandbox) -> None:
    """The log names the command, not only a failure."""
    with valkey(tmp_path / "valkey") as url:
        with Redis.from_url(url) as admin:
            admin.execute_command("ACL", "SETUSER", "poor", "on", ">PASSWORD", "~rq:*", "-@all", "+ping")
        with System(url, sandbox, tmp_path) as system:
            system.environment["BIRDFEED_REDIS_URL"] = as_user(url, "poor")
            system.start_pool(1, wait=False)
            eventually(lambda: "has no permissions to run the" in system.said(), what="the log says so")
            assert "PASSWORD" not in system.said()
