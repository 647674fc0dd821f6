"""Debian's Chromium, to view pages with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.servers.redis_servers import MUST_HAVE_ALL

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None and not MUST_HAVE_ALL:
        pytest.skip("Debian's chromium is not installed here")
    assert path is not None, "Debian's chromium"
    with sync_playwright() as playwright:
        # Chromium's own sandbox doesn't work for root, which CI uses.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.getuid() != 0)
        yield browser
        browser.close()
