"""Whole systems: a real Redis, the sandbox Tinybird, real worker processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.servers.redis_servers import MUST_HAVE_ALL, redis_server, valkey


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """The session's sandbox Tinybird."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Iterator[Sandbox]:
    """An empty sandbox without faults."""
    sandbox_process.clear_faults()
    sandbox_process.reset()
    yield sandbox_process
    sandbox_process.clear_faults()


@pytest.fixture(params=["valkey", "redis-server"])
def either_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a real server of each kind: embedded Valkey, and Debian's redis-server."""
    if request.param == "valkey":
        with valkey(tmp_path / "valkey") as url:
            yield url
        return
    if shutil.which("redis-server") is None and not MUST_HAVE_ALL:
        pytest.skip("Debian's redis-server is not installed here")
    with redis_server(tmp_path / "redis") as url:
        yield url
