"""Each script by itself, on a real Valkey and on fakeredis: its answer, and all that is in Redis afterwards."""

from collections.abc import Iterator

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.worker.lua import Scripts


@pytest.fixture(params=["valkey", "fakeredis"])
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """An empty Redis."""
    if request.param == "fakeredis":
        from fakeredis import FakeRedis

        with FakeRedis() as fake:
            yield fake
        return
    with Redis.from_url(request.getfixturevalue("valkey_url")) as client:
        client.flushall()
        yield client


@pytest.fixture
def run(redis: Redis, keys: Keys) -> Scripts:
    return Scripts(redis, keys)
