"""The console as a process of its own, and Debian's Chromium to look at it."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.apps.run import Server
from tests.support.servers.console import console_process
from tests.support.servers.redis_servers import MUST_HAVE_ALL

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey of this module's, which may be frozen."""
    with Server(tmp_path_factory.mktemp("valkey"), appendfsync="no") as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console on it."""
    with console_process(server.url, tmp_path_factory.mktemp("console")) as address:
        yield address


@pytest.fixture
def filled(server: Server, keys: Keys) -> Iterator[Redis]:
    """It, emptied."""
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None and not MUST_HAVE_ALL:
        pytest.skip("Debian's chromium is not installed here")
    assert path is not None, "Debian's chromium"
    with sync_playwright() as playwright:
        # Chromium's own sandbox doesn't work for root, as whom CI runs.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.getuid() != 0)
        yield browser
        browser.close()
