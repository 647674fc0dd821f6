"""The console as a process of its own, and Debian's Chromium to look at it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.commands import BIRDFEED, clean_environment
from tests.support.producer.apps.run import Server
from tests.support.servers.console import TOKEN
from tests.support.servers.redis_servers import MUST_HAVE_ALL

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def console_process(redis_url: str, folder: Path, **settings: str) -> Iterator[str]:
    """`birdfeed console` on a free port; yields its address."""
    environment = {
        **clean_environment(),
        "BIRDFEED_REDIS_URL": redis_url,
        "BIRDFEED_CONSOLE_TOKEN": TOKEN,
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    process = subprocess.Popen(
        [*BIRDFEED, "console", "--port", "0"], env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("birdfeed console on http://127.0.0.1:"), said + process.stderr.read()
        yield said.split()[3].rstrip("/")
    finally:
        process.terminate()
        process.communicate(timeout=60)


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
