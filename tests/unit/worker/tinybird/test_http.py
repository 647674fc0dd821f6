"""Requests over real sockets, to servers that behave badly."""

import gzip
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing

import pytest
from birdfeed_worker.errors import ConfigurationError, QueryError, RequestError
from birdfeed_worker.tinybird.client import MAX_ANSWER_BYTES, Tinybird
from birdfeed_worker.tinybird.decide import Unknown, decide
from birdfeed_worker.tinybird.http import HttpClient, JsonGetter, unpack

from tests.support.servers.raw_http import answer, drip, raw_server
from tests.support.servers.redis_servers import free_port

COUNTS = b'{"successful_rows":1,"quarantined_rows":0}'


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


DRIPS = {
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{", b" "),
    "a chunked body": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize(("first", "again"), DRIPS.values(), ids=list(DRIPS))
def test_a_server_that_never_ends_times_out_at_the_deadline(first: bytes, again: bytes, stop: threading.Event) -> None:
    """Each single read is in time; the whole answer is not."""
    with raw_server(drip(first, again, stop)) as url:
        client = HttpClient(url, connect_timeout=5, total_timeout=0.5)
        began = time.monotonic()
        with pytest.raises(RequestError) as caught:
            client.request("POST", "/", content=b"x", most_bytes=10**6)
        took = time.monotonic() - began
        client.close()

    assert caught.value.sent
    assert 0.4 < took < 3


def test_a_dripping_store_is_an_unknown_outcome(stop: threading.Event) -> None:
    """The rows may be written: the store is queried before they are sent again."""
    with (
        raw_server(drip(*DRIPS["a body"], stop)) as url,
        Tinybird(url, "append", "reader", connect_timeout=0.2, read_timeout=0.3) as tinybird,
    ):
        assert isinstance(decide(tinybird.append("llm_events", b"{}"), 1), Unknown)
        with pytest.raises(QueryError):
            tinybird.query("SELECT 1")


def test_the_next_request_has_its_own_deadline() -> None:
    """Also over a kept connection."""
    with raw_server(answer(COUNTS)) as url:
        client = HttpClient(url, connect_timeout=5, total_timeout=1)
        assert client.request("GET", "/", most_bytes=1_000).body == COUNTS
        stop = threading.Event()
        assert not stop.wait(1.1)
        assert client.request("GET", "/", most_bytes=1_000).body == COUNTS
        client.close()


def test_a_decompression_bomb_is_not_unpacked() -> None:
    """A hundred kilobytes of gzip that would be a hundred megabytes of memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(10**7)) for _ in range(10)) + packer.flush()
    assert len(bomb) < MAX_ANSWER_BYTES

    with raw_server(answer(bomb, "Content-Encoding: gzip")) as url, Tinybird(url, "append", "reader") as tinybird:
        told = tinybird.append("llm_events", b"{}")
        with pytest.raises(QueryError, match="unpacks to more than 64,000,000 bytes"):
            tinybird.query("SELECT 1")

    assert isinstance(decide(told, 1), Unknown)
    assert told.detail == "the answer unpacks to more than 1,000,000 bytes"


def test_an_endless_answer_is_cut() -> None:
    """Without compression, too."""
    with raw_server(answer(b" " * (MAX_ANSWER_BYTES + 1))) as url, Tinybird(url, "append", None) as tinybird:
        assert tinybird.append("llm_events", b"{}").detail == "the answer is longer than 1,000,000 bytes"


def test_gzip_is_read() -> None:
    """The encoding that is requested is understood."""
    with (
        raw_server(answer(gzip.compress(COUNTS), "Content-Encoding: gzip")) as url,
        Tinybird(url, "append", None) as tinybird,
    ):
        assert tinybird.append("llm_events", b"{}").successful == 1


@pytest.mark.parametrize(
    ("body", "encoding", "problem"),
    [
        (b"xx", "gzip", "is not valid gzip"),
        (gzip.compress(b"x" * 100)[:-9], "x-gzip", "ends too early"),
        (b"xx", "br", "was not asked for: 'br'"),
        (b"xx", "zstd", "was not asked for"),
        (b"xx", "gzip, gzip", "was not asked for"),
    ],
)
def test_what_cannot_be_unpacked_is_reported(body: bytes, encoding: str, problem: str) -> None:
    """As a fault of this answer, never as an exception."""
    assert problem in unpack(body, encoding, 1_000)[1]


def test_junk_instead_of_http() -> None:
    """It counts as no answer."""
    with raw_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")) as url:
        client = HttpClient(url, connect_timeout=1, total_timeout=1)
        with pytest.raises(RequestError, match="RemoteProtocolError"):
            client.request("GET", "/", most_bytes=1_000)
        client.close()


def test_a_refused_connection_is_known_to_have_sent_nothing() -> None:
    """Nothing was written."""
    client = HttpClient(f"http://127.0.0.1:{free_port()}", connect_timeout=1, total_timeout=1)
    with pytest.raises(RequestError) as caught:
        client.request("GET", "/", most_bytes=1_000)
    client.close()

    assert not caught.value.sent


def test_cookies_are_not_kept() -> None:
    """A server may set a thousand of them with each answer."""
    heard: list[bytes] = []
    with raw_server(answer(COUNTS, "Set-Cookie: a=b; Path=/", "Connection: close"), heard) as url:
        client = HttpClient(url, connect_timeout=1, total_timeout=5)
        for _ in range(2):
            client.request("GET", "/", most_bytes=1_000)
        client.close()

    assert [b"cookie" in asked.lower() for asked in heard] == [False, False]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "socksio"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:1", "proxy"),
        ("NO_PROXY", "[::1", "NO_PROXY"),
        ("SSL_CERT_FILE", "/nonexistent/ca.pem", "No such file"),
    ],
)
def test_an_environment_that_cannot_work_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """One sentence that names the variables, no traceback."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=said):
        HttpClient("https://store.example", connect_timeout=1, total_timeout=1)


def test_the_auth_service_is_requested_at_its_own_url() -> None:
    """Without an added slash, and with the users' parameter."""
    heard: list[bytes] = []
    with raw_server(answer(b'{"valid":true}'), heard) as url, closing(JsonGetter(f"{url}/check", 5.0)) as get:
        assert get({"user": "u 1"}) == (200, {"valid": True})
    with raw_server(answer(b"<html>"), heard) as url, closing(JsonGetter(f"{url}/", 5.0)) as get:
        assert get({}) == (200, None)

    assert [asked.split(b"\r\n")[0] for asked in heard] == [b"GET /check?user=u+1 HTTP/1.1", b"GET / HTTP/1.1"]
