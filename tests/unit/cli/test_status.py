"""`birdfeed status` where Redis doesn't answer."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.operate import status as module
from birdfeed_worker.queue.redis_time import redis_time
from redis import Redis
from typer.testing import CliRunner

from tests.support.producer.apps.run import Server


@pytest.mark.parametrize("hangs", ["from the start", "half-way"])
def test_a_redis_that_hangs(hangs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and exit code 3, after one timeout: in less than three seconds, including the program's start."""
    read_time = redis_time
    with Server(tmp_path / "valkey") as server, ExitStack() as until_the_end:
        monkeypatch.setenv("BIRDFEED_REDIS_URL", server.url)

        def hang_and_read_time(connection: Redis) -> float:
            until_the_end.enter_context(server.frozen())
            return read_time(connection)

        if hangs == "half-way":
            monkeypatch.setattr(module, "redis_time", hang_and_read_time)
        else:
            until_the_end.enter_context(server.frozen())

        began = time.monotonic()
        found: Any = CliRunner().invoke(app, ["status", "--json"])

        # Without this limit the timeout is ten seconds, with a second try.
        assert time.monotonic() - began < module.ANSWER_SECONDS + 6
        assert found.exit_code == 3
        assert json.loads(found.stdout)["problems"] == ["Redis can't be reached"]
        assert "TimeoutError" in found.stderr
