"""URLs are parsed in one place, and shown without their secrets."""

from urllib.parse import quote, unquote

import pytest
from birdfeed_schemas.redis_url import client_of
from birdfeed_schemas.safety.urls import UrlError, parts_of, shown
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
ENCODE = "in a user name or password, / ? # @ [ ] and what is not ASCII are percent-encoded: %2F for /"
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(user=SECRETS | st.just(""), password=SECRETS)
def test_no_part_of_a_password_is_shown(user: str, password: str) -> None:
    """With any character, percent-encoded or not: the whole login is hidden, or the whole URL."""
    for login in (f"{user}:{password}", f"{quote(user, safe='')}:{quote(password, safe='')}", password):
        assert shown(f"redis://{login}@h.example:6379/0") in ("redis://***@h.example:6379/0", "***")
        assert shown(f"rediss://{login}@h:1?password={password}") in ("rediss://***@h:1?***", "***")


@given(password=SECRETS)
def test_a_password_in_a_query_is_not_shown(password: str) -> None:
    for url in ("unix:///s?password=", "redis+sentinel://a:1,b:2/main/0?sentinel_password=", "https://auth/t?key="):
        assert shown(url + password) in (url.partition("?")[0] + "?***", "***")


@given(user=SECRETS, password=SECRETS)
def test_a_percent_encoded_password_reaches_redis(user: str, password: str) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h.example:6379/0"

    options = client_of(url, "test", OPTIONS).connection_pool.connection_kwargs

    assert shown(url) == "redis://***@h.example:6379/0"
    assert (options["username"], options["password"], options["host"]) == (user, password, "h.example")


@given(password=SECRETS)
def test_a_url_is_refused_or_redis_py_reads_it_the_same_way(password: str) -> None:
    """Otherwise redis-py would connect to another host, or name a part of the password in its error."""
    url = f"redis://:{password}@h.example:6379/0"
    try:
        options = client_of(url, "test", OPTIONS).connection_pool.connection_kwargs
    except UrlError as error:
        said = str(error)
    else:
        assert (options["password"], options["host"]) == (unquote(password), "h.example")
        return
    assert said.endswith(ENCODE)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun/ter2@h:6379/0",
        "redis://:hun?ter2@h:6379/0",
        "redis://:hun#ter2@h:6379/0",
        "redis://:hun/t@er2@h:6379/0",
        "redis://:hunter2",
        "redis://h:hunter2/0",
        "redis://:hunter2@h:port",
        "redis+sentinel://:hun/ter2@a:1,b:2/main/0",
        "unix://:hun/ter2@/s",
        "hunter2",
    ],
)
def test_errors_have_no_secret(url: str) -> None:
    with pytest.raises(UrlError) as caught:
        client_of(url, "test", OPTIONS)

    assert not any(piece in str(caught.value) for piece in ("hun", "ter2"))
    assert "hun" not in shown(url)
    assert "ter2" not in shown(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://my_redis", "redis://my_redis"),
        ("rediss://u:p@h/1?ssl_ca_certs=/x", "rediss://***@h/1?***"),
        ("unix:///run/redis/r.sock?db=1", "unix:///run/redis/r.sock?***"),
        ("redis+sentinel://u:p@a:26379,b/main/0", "redis+sentinel://***@a:26379,b/main/0"),
        ("https://api.us-east.tinybird.co", "https://api.us-east.tinybird.co"),
        ("https://auth.example/t?token={user}#x", "https://auth.example/t?***"),
        ("redis://h/\x1b[2J", "***"),
        ("redis://h\n", "***"),
    ],
)
def test_the_rest_is_shown(url: str, text: str) -> None:
    assert shown(url) == text


def test_the_pieces() -> None:
    parts = parts_of("redis+sentinel://u:p%40@a:1,b:2/main/0?ssl=1")

    assert (parts.scheme, parts.login, parts.hosts) == ("redis+sentinel", "u:p%40", "a:1,b:2")
    assert (parts.path, parts.query) == ("/main/0", "ssl=1")
