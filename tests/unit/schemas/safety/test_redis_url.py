"""Every URL is parsed as redis-py parses it, but for the options that are birdfeed's own affair."""

from typing import Any

import pytest
from birdfeed_schemas.redis_url import client_of
from birdfeed_schemas.safety.redis_url import checked_redis_url, redis_place
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.connection import URL_QUERY_ARGUMENT_PARSERS, parse_url
from redis.sentinel import SentinelConnectionPool

OPTIONS = {"socket_timeout": 1.0, "socket_connect_timeout": 2.0}
#: Options that other programs may have put into a URL that birdfeed shares, with values that would harm it.
HARMFUL = {
    **dict.fromkeys(URL_QUERY_ARGUMENT_PARSERS.keys() - {"db"}, "0"),
    **{"decode_responses": "true", "encoding": "utf-16", "client_name": "a b", "protocol": "3", "retry_on_error": "x"},
    **{"socket_timeout": "86400", "max_connections": "1", "timeout": "nan"},
}
OF_TLS = {name for name in HARMFUL if name.startswith("ssl_")}


def options_of(client: Redis) -> dict[str, Any]:
    return dict(client.connection_pool.connection_kwargs)


@given(
    scheme=st.sampled_from(["redis", "rediss"]),
    login=st.sampled_from(["", "user@", ":p%40ss@", "us%2Fer:p%25@"]),
    host=st.sampled_from(["", "h.example", "[::1]", "my_redis", "10.0.0.1"]),
    port=st.sampled_from(["", ":1", ":65535"]),
    path=st.sampled_from(["", "/", "/0", "/7"]),
    query=st.lists(st.sampled_from(["db=3", "db=4", "username=u%20v", "password=a%2Fb"]), max_size=3),
)
def test_redis_py_reads_the_same(scheme: str, login: str, host: str, port: str, path: str, query: list[str]) -> None:
    """Place, database and login, in whichever part of the URL they are."""
    url = f"{scheme}://{login}{host}{port if host else ''}{path}" + ("?" + "&".join(query) if query else "")
    theirs = {"host": "localhost", "port": 6379, "db": 0, **parse_url(url)}
    theirs.pop("connection_class", None)

    ours = options_of(client_of(url, "test", OPTIONS))

    assert {name: ours[name] for name in theirs} == theirs
    assert ("username" in ours, "password" in ours) == ("username" in theirs, "password" in theirs)


@pytest.mark.parametrize("name", sorted(HARMFUL.keys() - OF_TLS))
@pytest.mark.parametrize("place", ["redis://h/0", "rediss://h/0", "unix:///s", "redis+sentinel://h/service/0"])
def test_time_limits_and_pools_are_birdfeeds_own(place: str, name: str) -> None:
    """A URL that another program uses too doesn't change them: the same client is made as without the option."""
    with_it, without = f"{place}?{name}={HARMFUL[name]}", place

    found, expected = options_of(client_of(with_it, "test", OPTIONS)), options_of(client_of(without, "test", OPTIONS))

    assert checked_redis_url(with_it) == with_it
    assert found.keys() == expected.keys()
    for one in ("socket_timeout", "socket_connect_timeout", "protocol", "decode_responses", "encoding", "client_name"):
        assert found.get(one) == expected.get(one)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h?ssl_cert_reqs=none", "no TLS"),
        ("unix:///s?ssl_ca_certs=/ca", "no TLS"),
        ("redis+sentinel://h/s?ssl_ca_certs=/ca", "no TLS"),
        ("redis+sentinel://h/s?ssl=false&ssl_ca_certs=/ca", "no TLS"),
        ("redis+sentinel://h/s?ssl=maybe", "one of"),
        ("rediss://h?ssl=true", "unknown"),
        ("rediss://h?ssl_cert_reqs=sometimes", "one of none, optional, required"),
        ("rediss://h?ssl_check_hostname=maybe", "one of 1, true, t, yes, y, on, 0, false, f, no, n, off"),
        ("rediss://h?ssl_min_version=TLSv1", "one of tlsv1_2, tlsv1_3"),
        ("rediss://h?ssl_keyfile=/key", "ssl_certfile"),
        ("redis://h?ssl_ca_certs=/a&ssl_keyfile=/b", "ssl_ca_certs, ssl_keyfile, but no TLS"),
        ("rediss://h/0?password=ab#cd", "%2F"),
        ("redis://h/#3", "%2F"),
        ("unix:///run/redis#1/r.sock", "%2F"),
        ("rediss://h?ssl_ca_certs=%00", "control"),
        ("redis://a,b/0", "one host"),
        ("redis://h/99999999999", "not a number"),
        ("redis://h?db=1&nonsense", "unknown"),
        ("redis+sentinel://h/service?db=x", "not a number"),
    ],
)
def test_an_option_that_could_not_work_is_refused(url: str, why: str) -> None:
    """redis-py raised TypeErrors for them at the first command, and a producer kept its events on disk for ever."""
    with pytest.raises(ValueError, match=r"Redis URL") as told:
        checked_redis_url(url)

    assert why in str(told.value)


@pytest.mark.parametrize("name", ["ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ca_certs", "db"])
def test_an_empty_option_counts_as_not_given(name: str) -> None:
    """A template writes the name of an option also where the variable is empty."""
    with_it = options_of(client_of(f"rediss://h?{name}=", "test", OPTIONS))

    assert with_it.keys() == options_of(client_of("rediss://h", "test", OPTIONS)).keys()


@pytest.mark.parametrize(
    ("query", "checked"),
    [
        ("", True),
        ("ssl_check_hostname=N", False),
        ("ssl_check_hostname=on", True),
        ("ssl_cert_reqs=none", False),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", False),
    ],
)
def test_whether_the_name_in_the_certificate_is_checked(query: str, checked: bool) -> None:
    """It is set for every version of redis-py, some of which don't check it, or can't without a checked certificate."""
    assert options_of(client_of(f"rediss://h?{query}", "test", OPTIONS))["ssl_check_hostname"] is checked


def test_options_of_tls() -> None:
    """As redis-py and as Celery write them."""
    url = "rediss://h/0?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=no&ssl_min_version=TLSv1.3&ssl_ca_certs=/a%20b"

    made: Any = client_of(url, "test", OPTIONS).connection_pool.make_connection()

    assert (made.cert_reqs.name, made.check_hostname, made.ca_certs) == ("CERT_NONE", False, "/a b")
    assert made.ssl_min_version.name == "TLSv1_3"


def test_sentinels_have_the_same_tls() -> None:
    """With an authority of one's own, neither Redis nor the Sentinels could be reached; and db= was not read."""
    url = "redis+sentinel://h/service?db=3&password=p&ssl=true&ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k"
    client = client_of(url, "test", OPTIONS)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)

    for one in (options_of(client), options_of(pool.sentinel_manager.sentinels[0])):
        assert (one["ssl_ca_certs"], one["ssl_certfile"], one["ssl_keyfile"]) == ("/ca", "/c", "/k")
    assert (options_of(client)["db"], options_of(client)["password"]) == (3, "p")


def test_a_sentinels_service_and_login() -> None:
    """A name with a slash; a user's name without a password is not sent; a Sentinel is shown without its password."""
    client = client_of("redis+sentinel://app@h/my%2Fservice/2?sentinel_password=hush", "test", OPTIONS)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    (sentinel,) = pool.sentinel_manager.sentinels

    assert pool.service_name == "my/service"
    assert "username" not in options_of(client)
    assert options_of(sentinel)["password"] == "hush"
    assert options_of(sentinel)["protocol"] == 2
    assert "hush" not in f"{sentinel} - {sentinel!r}"


def test_a_parsed_url_shows_no_secret() -> None:
    """In a traceback."""
    place = redis_place("redis+sentinel://u:hush@h/s?sentinel_password=hush&ssl=true&ssl_password=hush")

    assert "hush" not in repr(place)
    assert place.login["password"] == place.sentinel_login["password"] == "hush"
