"""The worker's Redis client: its timeouts, its retries, and the handshake of a new connection."""

from threading import Event
from typing import Any

import pytest
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.process.main import wait_for_redis
from birdfeed_worker.queue.connect import CLIENT_NAME, CONNECT_TIMEOUT, SOCKET_TIMEOUT, connect
from redis import Redis, exceptions
from redis.backoff import NoBackoff

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("given", "tries", "answer", "connecting"),
    [
        ({}, 20, SOCKET_TIMEOUT, CONNECT_TIMEOUT),
        ({"tries": 0, "timeout": 0.5}, 0, 0.5, 0.5),
        ({"tries": 3, "timeout": 60.0}, 3, 60.0, CONNECT_TIMEOUT),
    ],
)
def test_the_timeouts_of_a_connection(given: dict[str, Any], tries: int, answer: float, connecting: float) -> None:
    """Every answer and every connect has one; an idle connection is checked before it is used."""
    made: Any = connect(NOWHERE, **given).connection_pool.make_connection()

    assert (made.socket_timeout, made.socket_connect_timeout) == (answer, connecting)
    assert made.health_check_interval == 15
    assert made.retry.get_retries() == tries
    waits = [made.retry._backoff.compute(failures) for failures in (1, 30)]
    assert 0.05 <= waits[0] <= 0.1
    assert 0.5 <= waits[1] <= 1.0


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.BusyLoadingError,
        exceptions.ReadOnlyError,
        TimeoutError,
    ],
)
def test_what_is_retried(error: type[Exception]) -> None:
    """If Redis is away, is starting, or has become a replica."""
    made: Any = connect(NOWHERE, tries=2).connection_pool.make_connection()
    made.retry._backoff = NoBackoff()
    calls = list[int]()

    def fail() -> None:
        calls.append(1)
        raise error("away")

    with pytest.raises(error):
        made.retry.call_with_retry(fail, lambda failure: None)

    assert len(calls) == 3


def test_the_handshake_of_a_new_connection(valkey_url: str) -> None:
    """It signs in, selects its database, and has a name in CLIENT LIST."""
    with connect(valkey_url.replace("/0", "/1")) as client:
        client.ping()

        assert client.client_info()["name"] == CLIENT_NAME
        assert int(client.client_info()["db"]) == 1


class Speaks:
    """A connection to a server that refuses CLIENT."""

    health_check_interval = 15

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def on_connect(self) -> None:
        self.said.append(("on_connect", self.health_check_interval))

    def send_command(self, *words: str, **options: bool) -> None:
        self.said.append((*words, options))

    def read_response(self) -> None:
        self.said.append(("read",))
        raise exceptions.ResponseError("NOPERM")


def test_a_server_that_refuses_client() -> None:
    """Its error is read, so that it is not taken as the answer to the next command, and is ignored."""
    speaks: Any = Speaks()
    made: Any = connect(NOWHERE).connection_pool.make_connection()

    made.redis_connect_func(speaks)

    named = ("CLIENT", "SETNAME", CLIENT_NAME, {"check_health": False})
    assert speaks.said == [("on_connect", 0), named, ("read",)]
    assert speaks.health_check_interval == 15


@pytest.mark.parametrize("tries", [0, 1, 2])
@pytest.mark.parametrize("user", ["", "default:wrong@"])
def test_a_refused_sign_in_is_an_error_of_its_own(redis: Redis, valkey_url: str, user: str, tries: int) -> None:
    """With a health check of a new connection, redis-py connected again for its PING until the stack was full."""
    redis.config_set("requirepass", "hush-hush")
    try:
        with connect(valkey_url.replace("://", f"://{user}"), tries=tries) as client:
            with pytest.raises(exceptions.AuthenticationError):
                client.info()
            with pytest.raises(ConfigurationError, match=r"refuses the login.*BIRDFEED_REDIS_URL"):
                wait_for_redis(valkey_url, Event())
    finally:
        redis.config_set("requirepass", "")
