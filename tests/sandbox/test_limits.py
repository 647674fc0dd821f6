"""Rate limits, compressed bodies, the journal and the faults' JSON, without a server."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import birdfeed_sandbox
import pytest
import zstandard
from birdfeed_sandbox.errors import ApiError, FaultError
from birdfeed_sandbox.faults.registry import FaultBook
from birdfeed_sandbox.faults.spec import Fault
from birdfeed_sandbox.http.rate_limits import RateLimiter
from birdfeed_sandbox.http.request_body import decoded
from birdfeed_sandbox.http.request_log import Journal


def test_a_bucket_admits_a_second_of_requests_immediately_and_fills_up_again() -> None:
    limiter = RateLimiter()

    at_once = [limiter.take("ds", 5, now=10.0).allowed for _ in range(6)]
    later = [limiter.take("ds", 5, now=10.45).allowed for _ in range(3)]

    assert at_once == [True] * 5 + [False]
    assert later == [True, True, False]
    assert limiter.take("other", 5, now=10.45).allowed


def test_a_refusal_has_the_time_to_wait() -> None:
    """In whole seconds, counted from now and never 0."""
    limiter = RateLimiter()
    limiter.take("ds", 0.25, now=0.0)

    refused = limiter.take("ds", 0.25, now=1.0)

    assert refused.headers() == {
        "X-RateLimit-Limit": "1",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "3",
        "Retry-After": "3",
    }
    assert limiter.take("ds", 0.25, now=4.0).allowed


def test_reading_the_state_takes_no_token() -> None:
    limiter = RateLimiter()

    assert [limiter.look("ds", 2, now=0.0).tokens for _ in range(3)] == [2, 2, 2]
    assert "Retry-After" not in limiter.look("ds", 2, now=0.0).headers()


CONTENT = b'{"a": 1}\n' * 100
ZSTD = zstandard.ZstdCompressor()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (CONTENT, ""),
        (CONTENT, "identity"),
        (gzip.compress(CONTENT), "gzip"),
        (gzip.compress(CONTENT), " GZIP "),
        (gzip.compress(CONTENT[:90]) + gzip.compress(CONTENT[90:]), "gzip"),
        (ZSTD.compress(CONTENT), "zstd"),
        (ZSTD.compress(CONTENT[:90]) + ZSTD.compress(CONTENT[90:]), "zstd"),
    ],
)
def test_a_body_is_decoded(body: bytes, encoding: str) -> None:
    """Also one with several members or frames."""
    assert decoded(body, encoding, limit=len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (CONTENT, "br"),
        (CONTENT, "gzip"),
        (CONTENT, "zstd"),
        (gzip.compress(CONTENT)[:-5], "gzip"),
        (ZSTD.compress(CONTENT)[:-5], "zstd"),
        (gzip.compress(CONTENT) + b"x", "gzip"),
        (ZSTD.compress(CONTENT) + b"xxxxxxxx", "zstd"),
    ],
)
def test_a_body_that_is_not_in_its_encoding_is_400(body: bytes, encoding: str) -> None:
    with pytest.raises(ApiError) as caught:
        decoded(body, encoding, limit=10**6)

    assert caught.value.status == 400


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_a_body_too_long_is_413_without_being_unpacked(encoding: str) -> None:
    """A few kilobytes that would become 64 MB."""
    content = bytes(64 * 2**20) if encoding else bytes(10_001)
    body = {"": content, "gzip": gzip.compress(content, 1), "zstd": ZSTD.compress(content)}[encoding]

    with pytest.raises(ApiError) as caught:
        decoded(body, encoding, limit=10_000)

    assert caught.value.status == 413


def test_random_bytes_survive_zstd_in_slices() -> None:
    """Longer than what is read at a time."""
    content = os.urandom(50_000)

    assert decoded(ZSTD.compress(content), "zstd", limit=50_000) == content


def test_the_journal_counts_and_can_be_cleared() -> None:
    journal = Journal()
    first = journal.open(time=1.0, method="POST", path="/v0/events")
    second = journal.open(time=2.0, method="GET", path="/v0/sql")
    journal.answered(first, 200, 3.0)
    journal.answered(second, None, 4.0)

    report = journal.report(since=first.id)

    assert (report["requests"], report["statuses"]) == (2, {"200": 1, "none": 1})
    assert [(entry["id"], entry["status"], entry["answered_at"]) for entry in report["log"]] == [
        (second.id, None, None)
    ]
    journal.clear()
    assert journal.report() == {"requests": 0, "statuses": {}, "log": []}
    assert journal.open(time=5.0, method="GET", path="/").id == second.id + 1


def drawn(book: FaultBook, name: str | None = "ds", body: bytes = b"") -> dict[str, Any]:
    return book.draw("events", name, body).active()


def test_a_fault_clears_itself_after_its_times() -> None:
    book = FaultBook()
    book.add({"status": 500, "times": 2})

    assert [drawn(book) for _ in range(3)] == [{"status": 500}, {"status": 500}, {}]
    assert book.report() == []


def test_a_fault_affects_only_what_it_names() -> None:
    book = FaultBook()
    book.add({"status": 500, "datasource": "ds", "times": 1})

    assert drawn(book, "other") == {}
    assert book.draw("reads", "ds", b"").active() == {}
    assert drawn(book, "ds") == {"status": 500}


@pytest.mark.parametrize(
    ("fault", "events", "reads"),
    [
        ({"outage": True}, True, True),
        ({"status": 500}, True, False),
        ({"read_quota": 1}, False, True),
        ({"status": 500, "on": "reads"}, False, True),
        ({"outage": True, "on": "events"}, True, False),
    ],
)
def test_a_fault_is_for_reads_or_writes(fault: dict[str, Any], events: bool, reads: bool) -> None:
    book = FaultBook()
    book.add(fault)

    assert bool(book.draw("events", "ds", b"").active()) is events
    assert bool(book.draw("reads", None, b"").active()) is reads


def test_probability_repeats_with_the_same_seed() -> None:
    """Half of the requests, the same half each time."""

    def hits(seed: int) -> list[bool]:
        book = FaultBook()
        book.add({"status": 500, "probability": 0.5, "seed": seed})
        return [bool(drawn(book)) for _ in range(200)]

    assert hits(1) == hits(1) != hits(2)
    assert 60 < sum(hits(1)) < 140


def test_poison_and_max_body_bytes_affect_only_what_they_refuse() -> None:
    """Other bodies don't count as one of their times."""
    book = FaultBook()
    book.add({"poison": "bad-id", "times": 1})
    book.add({"max_body_bytes": 20, "times": 1})

    assert drawn(book, body=b"good") == {}
    assert drawn(book, body=b"... bad-id ...") == {"poison": "bad-id"}
    assert drawn(book, body=b"x" * 21) == {"max_body_bytes": 20}
    assert drawn(book, body=b"bad-id" * 4) == {}


def test_switches_of_several_faults_add_up_and_the_newest_wins() -> None:
    book = FaultBook()
    book.add({"status": 500, "delay_seconds": 1})
    newer = book.add({"status": 502})

    assert drawn(book) == {"status": 502, "delay_seconds": 1.0}
    assert book.clear(newer) == 1
    assert book.clear(newer) == 0
    assert drawn(book) == {"status": 500, "delay_seconds": 1.0}
    assert book.clear() == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "needs at least one switch"),
        ({"times": 1}, "needs at least one switch"),
        ({"outage": False}, "needs at least one switch"),
        ({"outtage": True}, "no fault switch outtage"),
        ({"status": 99}, "status: Input should be greater than or equal to 200"),
        ({"status": "500"}, "status: Input should be a valid integer"),
        ({"outage": 1}, "outage: Input should be a valid boolean"),
        ({"delay_seconds": -1}, "delay_seconds: Input should be greater than or equal to 0"),
        ({"delay_seconds": True}, "delay_seconds: Input should be a valid number"),
        ({"rate_limit": 0}, "rate_limit: Input should be greater"),
        ({"reset": "now"}, "reset: Input should be 'before' or 'after'"),
        ({"auth": 500}, "auth: Input should be 401, 403 or 404"),
        ({"poison": 1}, "poison: Input should be a valid string"),
        ({"quarantine_rows": {"path": "$.a"}}, "quarantine_rows.equals: Field required"),
        ({"quarantine_rows": {"path": "a", "equals": 1}}, "quarantine_rows.path: a JSON path begins with $"),
        ({"status": 500, "headers": {"a": 1}}, "headers.a: Input should be a valid string"),
        ({"status": 500, "times": 0}, "times: Input should be"),
        ({"status": 500, "probability": 2}, "probability: Input should be"),
        ({"headers": {"a": "b"}}, "headers goes with status only"),
        ({"delay_seconds": 1, "late_commit_status": 504}, "late_commit_status goes with late_commit_seconds only"),
    ],
)
def test_an_invalid_fault_is_refused(fault: dict[str, Any], message: str) -> None:
    book = FaultBook()

    with pytest.raises(FaultError, match=re.escape(message)):
        book.add(fault)

    assert book.report() == []


def test_every_switch_is_in_the_readme() -> None:
    """In its table."""
    readme = (Path(birdfeed_sandbox.__file__).parents[1] / "README.md").read_text()

    documented = set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE))

    assert documented == set(Fault.model_fields)


def test_the_public_interface_is_small() -> None:
    source = Path(birdfeed_sandbox.__file__).read_text()

    assert len(source.splitlines()) <= 40
    assert sorted(birdfeed_sandbox.__all__) == ["Sandbox", "SandboxError"]
