"""The console's pages, requested in this process, with an embedded Valkey."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

if TYPE_CHECKING:
    from starlette.testclient import TestClient


@pytest.fixture
def console(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., "TestClient"]]:
    """Makes a console, with a token or without, and a browser on this machine; signed in where there is a token."""
    from birdfeed_cli.console.access import Access
    from birdfeed_cli.console.app import Console, make_app
    from birdfeed_cli.console.replays import Runs
    from birdfeed_worker.settings import WorkerSettings
    from starlette.testclient import TestClient

    for name in ("TINYBIRD_HOST", "TINYBIRD_READ_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    made: list[Console] = []

    def make(token: str = "", *, sign_in: bool = True, connection: Redis = redis, **settings: Any) -> "TestClient":
        one = Console(
            connection=connection,
            keys=keys,
            access=Access(token),
            settings=WorkerSettings(_env_file=None, **settings),
            runs=Runs(connection, keys),
        )
        made.append(one)
        client = TestClient(
            make_app(one), base_url="http://127.0.0.1:9809", headers={"Origin": "http://127.0.0.1:9809"}
        )
        if token and sign_in:
            assert client.post("/sign-in", data={"token": token}).status_code == 200
        return client

    yield make
    for one in made:
        one.close()
