"""Every form of URL gives a client with timeouts."""

from typing import Any

import pytest
from birdfeed.transport.connection import connect
from redis import Redis, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool


def options_of(client: Redis) -> dict[str, Any]:
    return dict(client.connection_pool.connection_kwargs)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://user:secret@host:7000/3", "Connection"),
        ("rediss://user:secret@host:7000/3?ssl_cert_reqs=none", SSLConnection.__name__),
        ("unix://user:secret@/run/redis.sock?db=3", UnixDomainSocketConnection.__name__),
    ],
)
def test_urls(url: str, kind: str) -> None:
    """User, password and database are read; every wait has a timeout; redis-py itself retries nothing."""
    client = connect(url, timeout=0.7)
    options = options_of(client)

    assert client.connection_pool.connection_class.__name__ == kind
    assert (options["username"], options["password"], options["db"]) == ("user", "secret", 3)
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.7
    assert options["retry"]._retries == 0


def test_sentinel() -> None:
    """Several Sentinels, a service, a database; passwords of both kinds; TLS."""
    client = connect(
        "redis+sentinel://app:se%40cret@one:26379,two/mine/2?sentinel_username=s&sentinel_password=sp&ssl=true",
        timeout=0.7,
    )
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    options = options_of(client)
    sentinels = [options_of(one) for one in pool.sentinel_manager.sentinels]

    assert pool.service_name == "mine"
    assert (options["username"], options["password"], options["db"]) == ("app", "se@cret", 2)
    assert options["socket_timeout"] == 0.7
    assert [(one["host"], one["port"]) for one in sentinels] == [("one", 26379), ("two", 26379)]
    assert all((one["username"], one["password"], one["socket_timeout"]) == ("s", "sp", 0.7) for one in sentinels)
    assert pool.connection_class.__name__ == "MasterSSLConnection"


@pytest.mark.parametrize(
    "url", ["redis+sentinel://host", "redis+sentinel:///mine", "redis+sentinel://host/mine/x", "redis://host:port"]
)
def test_invalid_urls(url: str) -> None:
    """They raise when the client is created, not at the first command."""
    with pytest.raises(ValueError, match=r".+"):
        connect(url, timeout=1)


def test_credentials_have_priority_over_the_url() -> None:
    """They are requested for each connection."""
    client = connect("redis://user:old@host/0", timeout=1, credentials=lambda: ("user", "new"))
    connection: Any = client.connection_pool.make_connection()

    assert connection.credential_provider.get_credentials() == ("user", "new")
