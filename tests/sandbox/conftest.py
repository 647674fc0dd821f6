"""One sandbox process for all tests here, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from birdfeed_sandbox import Sandbox

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def project() -> Path:
    """The path of a small project of two data sources and two endpoints."""
    return PROJECT


@pytest.fixture(scope="session")
def process() -> Iterator[Sandbox]:
    """The process, with the default limits."""
    with Sandbox(project=PROJECT) as sandbox:
        yield sandbox
        assert "Traceback" not in sandbox.output()


@pytest.fixture
def tinybird(process: Sandbox) -> Sandbox:
    """The process, reset to its initial state."""
    process.reset()
    return process


@pytest.fixture
def append(tinybird: Sandbox) -> Iterator[httpx.Client]:
    """A client that may send events to an empty sandbox."""
    headers = {"Authorization": f"Bearer {tinybird.append_token}"}
    with httpx.Client(base_url=tinybird.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def read(tinybird: Sandbox) -> Iterator[httpx.Client]:
    """A client that may query an empty sandbox."""
    headers = {"Authorization": f"Bearer {tinybird.read_token}"}
    with httpx.Client(base_url=tinybird.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client
