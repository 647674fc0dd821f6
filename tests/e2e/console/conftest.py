"""The console in its own process, and Debian's Chromium to view it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.apps.run import Server
from tests.support.servers.chromium import chromium
from tests.support.servers.console import console_process

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey for this module, which tests may freeze."""
    with Server(tmp_path_factory.mktemp("valkey"), appendfsync="no") as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console on it."""
    with console_process(server.url, tmp_path_factory.mktemp("console")) as address:
        yield address


@pytest.fixture
def filled(server: Server, keys: Keys) -> Iterator[Redis]:
    """The server, emptied."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, stopped after the module: while it runs, no other one can be started in this process."""
    with chromium() as browser:
        yield browser
