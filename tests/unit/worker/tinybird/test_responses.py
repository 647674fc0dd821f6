"""Any answer in Tinybird's place: the result is a decision, or an error that a worker expects."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.decide import Unknown, decide
from birdfeed_worker.tinybird.lookup import find
from birdfeed_worker.tinybird.responses import MAX_DETAIL, redact, seconds

from tests.support.servers.raw_http import answer, raw_server

TOKEN = "p.eyJSECRETSECRETSECRETSECRET"
CHARSETS = [
    "undefined", "hex", "base64", "zlib", "rot13", "bz2", "punycode", "idna", "unicode_escape", "raw_unicode_escape",
    "utf-7", "utf-16", "mbcs", "a" * 4_000, "quopri", "uu", "charmap", "string_escape",
]  # fmt: skip


def client(handler: Callable[[httpx.Request], httpx.Response]) -> Tinybird:
    return Tinybird("https://api.example.test", TOKEN, TOKEN + "R", transport=httpx.MockTransport(handler))


def always(**given: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(**given)


@pytest.mark.parametrize("charset", CHARSETS, ids=[name[:20] for name in CHARSETS])
@pytest.mark.parametrize("status", [200, 503])
def test_an_unknown_charset_does_not_exit_the_worker(charset: str, status: int) -> None:
    """The page is read as UTF-8."""
    page = answer(b"<html>\xff\xfebusy</html>", f"Content-Type: text/html; charset={charset}", status=f"{status} X")
    with raw_server(page) as url, Tinybird(url, TOKEN, TOKEN + "R") as tinybird:
        told = tinybird.append("llm_events", b"x")
        with pytest.raises(QueryError):
            tinybird.query("SELECT 1")

    assert told.status == status
    assert "busy" in told.detail or status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"null",
        b'{"successful_rows":"1","quarantined_rows":0}',
        b'{"successful_rows":1.0,"quarantined_rows":0}',
        b'{"successful_rows":true,"quarantined_rows":0}',
        b'{"successful_rows":-1,"quarantined_rows":2}',
        b'{"successful_rows":1}',
        b'{"successful_rows":' + b"9" * 400 + b',"quarantined_rows":0}',
        b'{"a":' * 100_000,
        b"[" * 200_000,
        b"\xff\xfe",
        b"",
    ],
    ids=lambda body: str(body[:30]),
)
def test_a_200_with_other_content_is_an_unknown_outcome(body: bytes) -> None:
    """Only whole counts that add up mean written rows."""
    told = client(always(status_code=200, content=body)).append("llm_events", b"x")

    assert isinstance(decide(told, 1), Unknown)


@pytest.mark.parametrize("status", [103, 204, 301, 302, 307, 418, 599, 999])
def test_an_unexpected_status_is_an_unknown_outcome(status: int) -> None:
    """None of them is an exception."""
    told = client(always(status_code=status)).append("llm_events", b"x")

    assert isinstance(decide(told, 1), Unknown)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_names_its_target(status: int) -> None:
    """And the setting to check; it is not followed, as its target would get the rows."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url.host))
        return httpx.Response(status, headers={"Location": "https://elsewhere.test/" + "x" * 5_000})

    tinybird = client(handler)
    said = tinybird.append("llm_events", b"x").detail
    with pytest.raises(QueryError, match=r"redirects to https://elsewhere\.test/x") as caught:
        tinybird.query("SELECT 1")

    assert said.startswith("it redirects to https://elsewhere.test/x")
    assert "TINYBIRD_HOST" in said
    assert len(caught.value.detail) <= MAX_DETAIL
    assert set(asked) == {"api.example.test"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"token ' + TOKEN.encode() + b' invalid"}', "token [token] invalid"),
        (b'{"error":{"a":[1]}}', '{"error":{"a":[1]}}'),
        (b'{"error":"\\ud800"}', '{"error":"\\ud800"}'),
        (b"\x1b]0;pwn\x07\x1b[2J evil\x9b31m", "]0;pwn [2J evil\N{REPLACEMENT CHARACTER}31m"),
        (b"<html><head><style>b {}</style><script>x</script></head><h1>502</h1> Bad <b>Gateway", "502 Bad Gateway"),
        (b'{"error":"<html><body>502 <b>Bad</b> Gateway</body></html>"}', "502 Bad Gateway"),
        (b'{"error":"expected a < b and c > d, <unknown> found"}', "expected a < b and c > d, <unknown> found"),
        (b'{"error":"' + b"x" * 5_000 + b'"}', "x" * 300),
        (b"a\r\nb\xe2\x80\x8bc\xe2\x80\xaed", "a b c d"),
    ],
)
def test_a_servers_message_is_one_plain_line(body: bytes, said: str) -> None:
    """Without tokens, markup, and control characters."""
    assert client(always(status_code=500, content=body)).append("llm_events", b"x").detail == said


EVENT = ("01934f00-0000-7000-8000-000000000001", datetime.now(UTC))
META = {"meta": [{"name": "event_id", "type": "String"}, {"name": "occurred_at", "type": "DateTime64(3)"}]}
DATA: list[Any] = [
    None, 5, [{}], [[1]], [None], [{"event_id": ["x"]}], [{"event_id": {}}], [{"event_id": None}], "abc",
    {"event_id": 1},
]  # fmt: skip


@pytest.mark.parametrize("data", DATA, ids=str)
@pytest.mark.parametrize("where", ["the table", "quarantine"])
def test_rows_of_another_shape_are_no_answer(data: Any, where: str) -> None:
    """The query failed: the events wait. There is no other exception."""

    def handler(request: httpx.Request) -> httpx.Response:
        asked = request.content.decode()
        if "LIMIT 0" in asked:
            return httpx.Response(200, json=META)
        wanted = ("_quarantine" in asked) == (where == "quarantine")
        return httpx.Response(200, json={"data": data if wanted else []})

    with pytest.raises(QueryError, match="answer"):
        find(client(handler), "llm_events", [EVENT])


@pytest.mark.parametrize("meta", [None, [{}], "x", [{"name": [], "type": 1}], {"name": "a"}], ids=str)
def test_columns_of_another_shape_are_no_answer(meta: Any) -> None:
    """The same for columns."""
    tinybird = client(always(status_code=200, json={"meta": meta}))

    with pytest.raises(QueryError, match="not the API's JSON"):
        tinybird.columns("llm_events")
    with pytest.raises(QueryError, match="not the API's JSON"):
        client(always(status_code=200, json={"columns": meta})).describe("llm_events")


def test_rows_that_were_not_requested_are_ignored() -> None:
    """An id of another event, however similar."""

    def handler(request: httpx.Request) -> httpx.Response:
        if b"LIMIT 0" in request.content:
            return httpx.Response(200, json=META)
        rows = [{"event_id": "zzz", "columns": "", "reasons": ""}]
        return httpx.Response(200, json={"data": rows})

    found = find(client(handler), "llm_events", [EVENT])

    assert (found.written, found.quarantined) == (frozenset(), {})


def test_no_retry_after_raises() -> None:
    """Impossible dates, time zones beyond a day, huge numbers: 20,000 of them."""
    draw = random.Random(3)
    words = [
        "Mon", "99", "Jan", "9999", "00:00:00", "GMT", "-9999", "+9999", "1e9", "nan", "inf", "1e400", "1_0", "0x1", "",
        "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 0001 07:28:00 -2359", "Fri, 31 Dec 9999 23:59:59 -2359", "\x00",
        "Feb 30", "(", ")", "\\", '"', "12:99:99", "2026 ", "\N{ARABIC-INDIC DIGIT THREE}",
    ]  # fmt: skip
    for _ in range(20_000):
        text = " ".join(draw.choice(words) for _ in range(draw.randrange(1, 7)))
        wait = seconds({"retry-after": text}, "retry-after")
        assert wait is None or 0 <= wait <= 86_400, text


def test_a_short_token_is_not_masked() -> None:
    """A token of one letter, for example in a sandbox, would make every message unreadable."""
    assert redact("a man, a plan", ["a", ""]) == "a man, a plan"
