"""Every fault switch, on the server: what the client sees, and what was written."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from typing import Any

import httpx
import pytest
from birdfeed_sandbox import Sandbox

from tests.support.wait import eventually


def lines(*names: str) -> bytes:
    return "\n".join(json.dumps({"event_id": name, "at": "2026-11-01T10:00:00Z"}) for name in names).encode()


def send(client: httpx.Client, *names: str, **options: Any) -> httpx.Response:
    return client.post("/v0/events?name=events&wait=true", content=lines(*names or ("a",)), **options)


def impatient(seconds: float) -> httpx.Timeout:
    """A client whose only short timeout is the one for an answer."""
    return httpx.Timeout(30, read=seconds)


def written(tinybird: Sandbox) -> list[str]:
    return [row["event_id"] for row in tinybird.sql("SELECT event_id FROM events ORDER BY event_id")]


def last(tinybird: Sandbox) -> dict[str, Any]:
    entry: dict[str, Any] = tinybird.state()["log"][-1]
    return entry


def test_outage_is_503_on_both_sides_until_cleared(tinybird: Sandbox, append: httpx.Client, read: httpx.Client) -> None:
    """With a body that isn't JSON."""
    tinybird.fault(outage=True)

    answers = [send(append), read.get("/v0/sql", params={"q": "SELECT 1"})]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(answer.text.startswith("<html>") for answer in answers)
    assert tinybird.clear_faults() == 1
    assert send(append).status_code == 200
    assert written(tinybird) == ["a"]


def test_status_answers_with_headers_and_body(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(status=418, headers={"X-Tea": "pot", "Content-Type": "text/tea"}, body="short", times=1)

    answer = send(append)

    assert (answer.status_code, answer.text, answer.headers["X-Tea"]) == (418, "short", "pot")
    assert answer.headers["Content-Type"].startswith("text/tea")
    assert written(tinybird) == []
    assert send(append).status_code == 200


def test_status_alone_has_an_error_in_the_body(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(status=503, retry_after=7)

    answer = send(append)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_auth_refuses_a_good_token(tinybird: Sandbox, append: httpx.Client, status: int) -> None:
    tinybird.fault(auth=status, datasource="events")

    answer = send(append)

    assert answer.status_code == status
    assert (tinybird.append_token in answer.json()["error"]) is (status != 404)
    assert append.post("/v0/events?name=other", content=b'{"id": "x"}').status_code == 202
    assert written(tinybird) == []


def test_retry_after_is_a_429_with_that_wait(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(retry_after=2.5, times=1)

    answer = send(append)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2.5")
    assert written(tinybird) == []


def test_rate_limit_accepts_some_and_refuses_the_rest(tinybird: Sandbox, append: httpx.Client) -> None:
    """With every header that Tinybird sends."""
    tinybird.fault(rate_limit=0.01)

    first, second = send(append, "a"), send(append, "b")

    assert (first.status_code, second.status_code) == (200, 429)
    assert 90 <= int(second.headers["Retry-After"]) <= 100
    assert second.headers["X-RateLimit-Remaining"] == "0"
    assert int(second.headers["X-RateLimit-Reset"]) <= 100
    assert written(tinybird) == ["a"]


def test_read_quota_stops_the_queries_and_not_the_writes(
    tinybird: Sandbox, append: httpx.Client, read: httpx.Client
) -> None:
    tinybird.fault(read_quota=2)

    statuses = [read.get("/v0/sql", params={"q": "SELECT 1"}).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert send(append).status_code == 200


def test_delays_overlap(tinybird: Sandbox) -> None:
    """64 concurrent requests of a second each take much less than 64 seconds."""
    tinybird.fault(delay_seconds=0.5, answer_delay_seconds=0.5)
    headers = {"Authorization": f"Bearer {tinybird.append_token}"}

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=tinybird.url, headers=headers, timeout=60, trust_env=False) as client:
            posts = [client.post("/v0/events?name=events", content=lines(str(n))) for n in range(64)]
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    began = time.monotonic()
    statuses = asyncio.run(all_at_once())
    took = time.monotonic() - began

    assert statuses == [202] * 64
    assert 1.0 <= took < 50
    assert len(written(tinybird)) == 64


def test_reset_before_commit_writes_nothing(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(reset="before", times=1)

    with pytest.raises(httpx.TransportError):
        send(append)

    assert written(tinybird) == []
    assert (last(tinybird)["status"], last(tinybird)["written_at"]) == (None, None)
    assert send(append).status_code == 200


def test_reset_after_commit_has_written(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(reset="after", times=1)

    with pytest.raises(httpx.TransportError):
        send(append)

    assert written(tinybird) == ["a"]
    assert last(tinybird)["status"] is None


def test_reset_in_the_answer_sends_half(tinybird: Sandbox, append: httpx.Client) -> None:
    """The header has the length of the body, which is then not sent."""
    tinybird.fault(reset_mid_answer=True, times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        send(append)

    assert written(tinybird) == ["a"]


def test_not_json_keeps_the_status(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(not_json=True)

    answer = send(append)

    assert answer.status_code == 200
    assert answer.text.startswith("<html>")
    assert written(tinybird) == ["a"]


def test_odd_answers(tinybird: Sandbox, append: httpx.Client) -> None:
    """Each comes after the rows were written."""

    def odd(kind: str) -> tuple[httpx.Response, bytes]:
        tinybird.fault(odd_answer=kind, times=1)
        with append.stream("POST", "/v0/events?name=events&wait=true", content=lines(kind)) as answer:
            return answer, b"" if kind == "drip" else b"".join(answer.iter_raw())

    charset, text = odd("charset")
    assert charset.headers["Content-Type"] == "application/json; charset=utf-16"
    assert json.loads(text.decode("utf-16"))["successful_rows"] == 1
    bomb, packed = odd("bomb")
    assert bomb.headers["Content-Encoding"] == "gzip"
    assert len(packed) < 200_000
    assert len(gzip.decompress(packed)) == 10**8
    drip, _ = odd("drip")
    assert (drip.status_code, drip.headers["Content-Length"]) == (200, "1000000")
    shape, other = odd("shape")
    assert shape.status_code == 200
    assert type(json.loads(other)["successful_rows"]) is str
    redirect, _ = odd("redirect")
    assert (redirect.status_code, redirect.headers["Location"]) == (307, "https://elsewhere.invalid/")
    assert written(tinybird) == ["bomb", "charset", "drip", "redirect", "shape"]


def test_an_odd_answer_to_a_query(tinybird: Sandbox, read: httpx.Client) -> None:
    """With drip, some of the answer is sent, but never all of it."""
    tinybird.fault(odd_answer="drip", on="reads", times=1)

    with read.stream("GET", "/v0/sql", params={"q": "SELECT 1"}) as answer:
        got = answer.iter_raw()
        two = next(got) + next(got)  # on a busy machine a read may get several of the server's writes
    assert len(two) >= 2
    assert two.strip(b" ") == b""


def test_max_body_bytes_refuses_longer_bodies(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(max_body_bytes=len(lines("a")))

    assert send(append, "b", "c").status_code == 413
    assert send(append, "a").status_code == 200
    assert written(tinybird) == ["a"]


def test_poison_refuses_bodies_that_contain_it(tinybird: Sandbox, append: httpx.Client) -> None:
    """So a client that halves its batch finds the row."""
    tinybird.fault(poison='"bad"')

    assert send(append, "a", "bad").status_code == 400
    assert send(append, "a").status_code == 200
    assert send(append, "bad").status_code == 400
    assert written(tinybird) == ["a"]


def test_quarantine_rows_quarantines_chosen_rows(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(quarantine_rows={"path": "$.event_id", "equals": "b"})

    answer = send(append, "a", "b", "c")

    assert answer.json() == {"successful_rows": 2, "quarantined_rows": 1}
    assert written(tinybird) == ["a", "c"]
    assert [row["event_id"] for row in tinybird.sql("SELECT event_id FROM events_quarantine")] == ["b"]


def test_partly_written_is_422_and_writes_the_first_rows(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(partly_written=0.5)

    assert send(append, "a", "b", "c", "d").status_code == 422
    assert written(tinybird) == ["a", "b"]


@pytest.mark.parametrize(("writes", "expected"), [("all", ["a", "b", "c"]), ("counted", ["a", "b"])])
def test_short_count_reports_too_few(tinybird: Sandbox, append: httpx.Client, writes: str, expected: list[str]) -> None:
    """With or without writing the rest."""
    tinybird.fault(short_count=1, short_count_writes=writes)

    answer = send(append, "a", "b", "c")

    assert (answer.status_code, answer.json()["successful_rows"]) == (200, 2)
    assert written(tinybird) == expected


@pytest.mark.parametrize("status", [200, 202])
def test_vanish_reports_success_and_writes_nothing(tinybird: Sandbox, append: httpx.Client, status: int) -> None:
    tinybird.fault(vanish=status)

    answer = send(append, "a", "b")

    assert (answer.status_code, answer.json()) == (status, {"successful_rows": 2, "quarantined_rows": 0})
    assert written(tinybird) == []


@pytest.mark.parametrize("status", [500, 502, 504, 408])
def test_commit_then_status_has_written(tinybird: Sandbox, append: httpx.Client, status: int) -> None:
    tinybird.fault(commit_then_status=status, times=1)

    assert send(append).status_code == status
    assert written(tinybird) == ["a"]


def test_commit_then_status_does_not_affect_refusals(tinybird: Sandbox, append: httpx.Client) -> None:
    """Nothing was committed."""
    tinybird.fault(commit_then_status=504)

    assert append.post("/v0/events?name=events", content=b"broken").status_code == 400


def test_commit_then_hang_has_written_and_sends_nothing(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(commit_then_hang=60)

    with pytest.raises(httpx.ReadTimeout):
        send(append, timeout=impatient(0.5))

    assert written(tinybird) == ["a"]
    eventually(lambda: bool(last(tinybird)["client_gone"]), what="the client is gone")
    assert last(tinybird)["status"] is None


def test_commit_then_hang_ends_in_a_reset(tinybird: Sandbox, append: httpx.Client) -> None:
    """For a client whose timeout is longer than the fault's."""
    tinybird.fault(commit_then_hang=0.1)

    with pytest.raises(httpx.TransportError):
        send(append)

    assert last(tinybird)["client_gone"] is False


def test_late_commit_is_written_after_the_client_has_gone(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(late_commit_seconds=2.0, times=1)

    with pytest.raises(httpx.ReadTimeout):
        send(append, timeout=impatient(0.3))

    gave_up = time.time()
    eventually(lambda: written(tinybird) == ["a"], what="the late write")
    entry = last(tinybird)
    assert entry["written_at"] - entry["time"] >= 2.0
    assert entry["written_at"] > gave_up
    assert (entry["status"], entry["successful_rows"]) == (None, 1)


def test_late_commit_may_answer_immediately(tinybird: Sandbox, append: httpx.Client) -> None:
    """As a gateway answers while the write continues behind it."""
    tinybird.fault(late_commit_seconds=0.5, late_commit_status=504)

    assert send(append).status_code == 504
    eventually(lambda: written(tinybird) == ["a"], what="the late write")
    assert last(tinybird)["written_at"] > last(tinybird)["answered_at"]


def test_a_late_commit_that_is_refused_is_logged(tinybird: Sandbox, append: httpx.Client) -> None:
    """There is no client left to answer."""
    tinybird.fault(late_commit_seconds=0.05, late_commit_status=504)
    years = "\n".join(json.dumps({"event_id": "a", "at": f"{year}-01-01T00:00:00Z"}) for year in range(2010, 2026))

    assert append.post("/v0/events?name=events", content=years.encode()).status_code == 504

    number = last(tinybird)["id"]
    eventually(
        lambda: f"late write of request {number} was refused: " in tinybird.output(), what="the late write is refused"
    )
    assert last(tinybird)["written_at"] is None


def test_reset_of_the_sandbox_drops_late_commits(tinybird: Sandbox, append: httpx.Client) -> None:
    """A write of one test is never written in the next."""
    tinybird.fault(late_commit_seconds=0.5, late_commit_status=504, times=1)
    assert send(append, "late").status_code == 504

    tinybird.reset()
    tinybird.fault(late_commit_seconds=1.0, late_commit_status=504, times=1)
    assert send(append, "later").status_code == 504

    eventually(lambda: written(tinybird) != [], what="the late write")
    assert written(tinybird) == ["later"]


def test_a_delayed_write_continues_without_its_client(tinybird: Sandbox, append: httpx.Client) -> None:
    tinybird.fault(delay_seconds=1.5, times=1)

    with pytest.raises(httpx.ReadTimeout):
        send(append, timeout=impatient(0.2))

    eventually(lambda: last(tinybird)["client_gone"], what="the client is gone")
    assert written(tinybird) == ["a"]
    assert last(tinybird)["status"] is None


@pytest.mark.parametrize("target", ["POST /v0/events?name=events", "POST /v0/sql"])
def test_a_client_that_disconnects_in_the_middle_of_its_body_has_written_nothing(
    tinybird: Sandbox, target: str
) -> None:
    """As a killed worker does."""
    address = httpx.URL(tinybird.url)
    head = f"{target} HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: 1000\r\n\r\n".encode()

    with socket.create_connection((address.host, address.port or 0)) as connection:
        connection.sendall(head + lines("a") + b"\n")

    eventually(lambda: bool(tinybird.state()["log"]) and last(tinybird)["client_gone"], what="the client is gone")
    assert written(tinybird) == []
    assert last(tinybird)["status"] is None


def test_the_log_names_the_faults_that_a_request_had(tinybird: Sandbox, append: httpx.Client) -> None:
    """The active faults are listed as they were given, with their remaining times."""
    number = tinybird.fault(delay_seconds=0.01, commit_then_status=500, times=3)

    send(append)

    assert sorted(last(tinybird)["faults"]) == ["commit_then_status", "delay_seconds"]
    assert tinybird.state()["faults"] == [
        {"delay_seconds": 0.01, "commit_then_status": 500, "times": 3, "id": number, "left": 2}
    ]
