"""retry.decide: every answer to a request maps to exactly one decision."""

import pytest
from birdfeed_worker.flow.backoff import backoff, with_jitter
from birdfeed_worker.tinybird.decide import (
    Answer,
    Bisect,
    Decision,
    Done,
    Halve,
    PartlyQuarantined,
    Pause,
    TokenRefused,
    Unknown,
    Wait,
    decide,
)
from hypothesis import given
from hypothesis import strategies as st

TABLE: list[tuple[str, Answer, Decision]] = [
    ("all written", Answer(status=200, successful=3, quarantined=0), Done()),
    ("some quarantined", Answer(status=200, successful=1, quarantined=2), PartlyQuarantined(2)),
    ("all quarantined", Answer(status=200, successful=0, quarantined=3), PartlyQuarantined(3)),
    (
        "short count",
        Answer(status=200, successful=2, quarantined=0),
        Unknown("HTTP 200, but of 3 rows 2 were accepted and 0 quarantined"),
    ),
    ("no counts", Answer(status=200), Unknown("HTTP 200 without row counts")),
    ("a 202 is not a write", Answer(status=202, successful=3, quarantined=0), Unknown("HTTP 202")),
    ("over the rate", Answer(status=429, retry_after=7, reset=3), Wait(7, "HTTP 429")),
    ("over the rate, reset only", Answer(status=429, reset=3), Wait(3, "HTTP 429")),
    ("over the rate, now", Answer(status=429, retry_after=0, reset=3), Wait(0, "HTTP 429")),
    ("overload", Answer(status=503, detail="busy"), Wait(None, "HTTP 503: busy")),
    ("no token", Answer(status=401), TokenRefused("HTTP 401")),
    ("wrong token", Answer(status=403, detail="invalid"), TokenRefused("HTTP 403: invalid")),
    ("no such data source", Answer(status=404), Pause("HTTP 404")),
    ("unparsable", Answer(status=400), Bisect("HTTP 400")),
    ("too large", Answer(status=413), Halve("HTTP 413")),
    ("a view failed", Answer(status=422), Unknown("HTTP 422")),
    ("unexpected", Answer(status=500), Unknown("HTTP 500")),
    ("gateway", Answer(status=502), Unknown("HTTP 502")),
    ("gateway timeout", Answer(status=504), Unknown("HTTP 504")),
    ("request timeout", Answer(status=408), Unknown("HTTP 408")),
    ("a redirect", Answer(status=301), Unknown("HTTP 301")),
    ("reset", Answer(status=0, detail="ReadError"), Unknown("ReadError")),
    ("nobody there", Answer(status=0, sent=False, detail="ConnectError"), Wait(None, "ConnectError")),
]


@pytest.mark.parametrize(("answer", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decide(answer: Answer, expected: Decision) -> None:
    """The table in the design and in Tinybird's contract, row by row, for a request of three rows."""
    assert decide(answer, 3) == expected


counts = st.none() | st.integers(min_value=0, max_value=20_000)


@given(st.integers(min_value=0, max_value=999), counts, counts, st.integers(min_value=1, max_value=10_000))
def test_only_full_counts_are_written(status: int, successful: int | None, quarantined: int | None, rows: int) -> None:
    """Nothing but a 200 whose counts add up to the rows sent ever counts as written."""
    decision = decide(Answer(status=status, successful=successful, quarantined=quarantined), rows)

    complete = status == 200 and successful == rows and quarantined == 0
    assert isinstance(decision, Done) == complete
    if isinstance(decision, PartlyQuarantined):
        assert status == 200
        assert (successful or 0) + decision.rows == rows


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=1))
def test_backoff_grows_to_the_cap_and_is_never_zero(failures: int, draw: float) -> None:
    """Half of the wait is fixed, so that a pool never retries too fast; none exceeds the cap."""
    full = min(60.0, 1.0 * 2.0 ** min(failures - 1, 32))

    assert full / 2 <= backoff(failures, base=1.0, cap=60.0, draw=lambda: draw) <= full


@given(st.floats(min_value=0, max_value=86_400), st.floats(min_value=0, max_value=1))
def test_never_less_than_retry_after(asked: float, draw: float) -> None:
    """Jitter is added to Retry-After."""
    assert with_jitter(asked, lambda: draw) >= asked
