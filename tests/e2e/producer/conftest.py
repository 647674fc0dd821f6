"""A server for each file of tests, emptied before each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.producer.apps.run import Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def env(server: Server, tmp_path: Path) -> dict[str, str]:
    return {"BIRDFEED_REDIS_URL": server.url, "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool")}
