"""Fixtures all tests share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_schemas.wire.keys import Keys
from hypothesis import HealthCheck, settings
from redis import Redis

from tests.support.servers.redis_servers import valkey

#: A slow machine is not a fault of the code, so there is no deadline; and the gate draws the same examples each time,
#: so that a failure can be repeated. `pytest --hypothesis-profile=explore` draws new ones.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("birdfeed", PATIENT, derandomize=True)
settings.register_profile("explore", PATIENT, max_examples=1_000)
settings.load_profile("birdfeed")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's embedded Valkey."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    with valkey(folder) as url:
        yield url


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    """An empty Valkey."""
    with Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def keys() -> Keys:
    """The default names of keys."""
    return Keys("rq", "birdfeed")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: gzip's output contains the time, and xdist's workers must agree on every id."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection, which took a tenth of the CPU time."""
    gc.collect()
    gc.freeze()
