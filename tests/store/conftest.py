"""A sandbox with birdfeed's own Tinybird project, and clients for it."""

from collections.abc import Iterator

import pytest
from birdfeed_sandbox import Sandbox


@pytest.fixture(scope="session")
def store_process() -> Iterator[Sandbox]:
    """One process for all tests here."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def store(store_process: Sandbox) -> Sandbox:
    """An empty store."""
    store_process.reset()
    return store_process
