"""admit.lua and report.lua: one rate limiter for the pool."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support.worker.lua import Scripts

#: The worker, the seconds of its probe; ten requests and a hundred bytes a second, and a request of five bytes.
ASK = ("d", 10, 100, 5, "me", 30)
BACKOFF = "backoff_until"


def state(run: Scripts) -> dict[str, str]:
    return dict(run.read("destination_d") or {})


def given(run: Scripts, **fields: Any) -> dict[str, str]:
    """Write fields of the destination's hash; a number is seconds from now."""
    at = run.now()
    texts = {name: value if isinstance(value, str) else f"{at + value:.6f}" for name, value in fields.items()}
    run.put(destination_d=texts)
    return texts


def admit(run: Scripts, per_s: float = 10, bytes_s: float = 100) -> tuple[float, str, str, int]:
    wait, reason, at, probing = run("admit", "d", per_s, bytes_s, *ASK[3:])
    return float(wait), reason, at, probing


def test_a_request_that_is_admitted(run: Scripts) -> None:
    """It uses its share of both rates, and nothing else is written."""
    wait, reason, at, probing = admit(run)

    assert (wait, reason, probing) == (0, "", 0)
    assert float(at) == pytest.approx(run.now(), abs=30)
    found = {name: float(value) - float(at) for name, value in state(run).items()}
    assert found == pytest.approx({"next_request": -0.05 + 0.1, "next_byte": 0.05}, abs=1e-4)
    assert list(run.all()) == [run.key("destination_d")]


@pytest.mark.parametrize("which", ["next_request", "next_byte"])
def test_a_request_beyond_a_rate_waits(run: Scripts, which: str) -> None:
    """Until the bucket has room; it uses nothing."""
    before = given(run, **{which: 50})

    wait, *rest = admit(run, per_s=0.01)

    assert 0 < wait <= 50
    assert rest == ["rate", "", 0]
    assert state(run) == before


@pytest.mark.parametrize(
    ("which", "per_s", "bytes_s", "longest"), [("next_request", 0.01, 100, 100.0), ("next_byte", 10, 1e6, 100.0)]
)
def test_what_was_sent_at_a_lower_rate(run: Scripts, which: str, per_s: float, bytes_s: float, longest: float) -> None:
    """At most one interval, or the largest request at today's rate, is waited for; from now on, not from each call."""
    given(run, **{which: 5_000})

    wait, *rest = admit(run, per_s=per_s, bytes_s=bytes_s)
    after = state(run)

    assert longest - 30 < wait <= longest + 0.001
    assert rest == ["rate", "", 0]
    assert float(after[which]) == pytest.approx(run.now() + longest, abs=30)
    assert admit(run, per_s=per_s, bytes_s=bytes_s)[0] < wait
    assert state(run) == after


@pytest.mark.parametrize("reason", [{"reason": "HTTP 429"}, {}])
def test_during_a_backoff(run: Scripts, reason: dict[str, str]) -> None:
    """No request before its end; nothing is written."""
    before = given(run, **{BACKOFF: 50}, failures="1", **reason)

    wait, *rest = admit(run)

    assert 0 < wait <= 50
    assert rest == [reason.get("reason", ""), "", 0]
    assert state(run) == before


@pytest.mark.parametrize(
    ("probe", "waits"),
    [
        ({}, False),
        ({"probe_until": 50}, False),
        ({"probe": "", "probe_until": 50}, False),
        ({"probe": "me", "probe_until": 50}, False),
        ({"probe": "other"}, False),
        ({"probe": "other", "probe_until": -1}, False),
        ({"probe": "other", "probe_until": 50}, True),
    ],
    ids=str,
)
def test_after_a_backoff_one_worker_probes(run: Scripts, probe: dict[str, Any], waits: bool) -> None:
    """And the others wait for its result, at most a second."""
    before = given(run, failures="1", reason="HTTP 503", **probe)

    wait, reason, at, probing = admit(run)

    if waits:
        assert (wait, reason, at, probing) == (1, "HTTP 503", "", 0)
        assert state(run) == before
    else:
        assert (wait, reason, probing) == (0, "", 1)
        assert state(run)["probe"] == "me"
        assert float(state(run)["probe_until"]) == pytest.approx(float(at) + 30, abs=0.01)


def test_a_probe_that_is_nearly_over(run: Scripts) -> None:
    """The others wait until its end."""
    given(run, failures="1", probe="other", probe_until=0.9)

    assert 0 < admit(run)[0] < 0.95


def test_a_probe_waits_for_the_rates_too(run: Scripts) -> None:
    """And it stays the probe."""
    given(run, failures="1", next_request=50)

    wait, reason, at, probing = admit(run)

    assert 0 < wait <= 50
    assert (reason, at, probing) == ("rate", "", 1)
    assert state(run)["probe"] == "me"


def test_there_is_no_probe_without_a_failure(run: Scripts) -> None:
    """Even with the fields of an earlier probe."""
    before = given(run, failures="0", probe="other", probe_until=50)

    assert admit(run)[::3] == (0, 0)
    assert {name: state(run)[name] for name in before} == before


@pytest.mark.parametrize("junk", ["x", "", "nan", "-1", "1e12", "1e400", "9" * 16, "1.5"])
def test_junk_in_its_state_stops_nothing(run: Scripts, junk: str) -> None:
    """It counts as missing; so does a time weeks ahead, which would stop the pool."""
    given(run, **dict.fromkeys((BACKOFF, "failures", "probe_until", "next_request", "next_byte"), junk))

    assert admit(run)[::3] == (0, 0)


@pytest.mark.parametrize(("ahead", "waits"), [(604_000, True), (605_000, False)])
def test_a_week_is_the_longest_wait(run: Scripts, ahead: float, waits: bool) -> None:
    given(run, **{BACKOFF: ahead})

    assert (admit(run)[0] > 0) == waits


@pytest.mark.parametrize("script", [("admit", *ASK), ("report", "d", "available", "[]", "", "", "me")], ids=str)
def test_a_key_of_another_kind_is_named(run: Scripts, script: tuple[Any, ...]) -> None:
    """And stays as it is."""
    run.put(destination_d="text")

    with pytest.raises(ResponseError, match="WRONGKIND rq:birdfeed:birdfeed:destination:d holds a string, not a hash"):
        run(*script)

    assert run.all() == {run.key("destination_d"): "text"}


# ---- report.lua


def report(run: Scripts, outcome: str, waits: str = "[4,6,9]", *, admitted: str = "", who: str = "me") -> float:
    return float(run("report", "d", outcome, waits, "HTTP 503", admitted, who))


@pytest.mark.parametrize(("who", "left"), [("me", set()), ("other", {"probe", "probe_until"})])
def test_a_probe_without_a_result(run: Scripts, who: str, left: set[str]) -> None:
    """Only the worker of the probe ends it."""
    given(run, failures="1", probe="me", probe_until=50)

    assert report(run, "inconclusive", who=who) == 0

    assert set(state(run)) == {"failures"} | left


@pytest.mark.parametrize(("admitted", "clears"), [("", True), ("before", False), ("at", True), ("after", True)])
def test_a_good_answer(run: Scripts, admitted: str, clears: bool) -> None:
    """It ends the backoff, unless the request was sent before that began."""
    at = given(
        run,
        **{BACKOFF: 50},
        backoff_at=-10,
        failures="2",
        probe="me",
        probe_until=50,
        reason="x",
        paused="1",
        since=-99,
        next_byte=1,
    )
    began = float(at["backoff_at"])
    sent = {"": "", "before": f"{began - 1:.6f}", "at": at["backoff_at"], "after": f"{began + 1:.6f}"}[admitted]

    assert report(run, "available", admitted=sent) == 0

    kept = {"next_byte": at["next_byte"]} if clears else at
    found = state(run)
    assert float(found.pop("last_success")) == pytest.approx(run.now(), abs=30)
    assert found == kept


@pytest.mark.parametrize(("outcome", "paused"), [("backing_off", ""), ("paused", "1")])
def test_the_first_failure(run: Scripts, outcome: str, paused: str) -> None:
    """The first wait, and all fields about it."""
    at = run.now()
    assert report(run, outcome) == pytest.approx(4, abs=1e-3)

    found = state(run)
    times = {name: float(found.pop(name)) - at for name in (BACKOFF, "backoff_at", "since")}
    assert times == pytest.approx({BACKOFF: 4, "backoff_at": 0, "since": 0}, abs=30)
    assert times[BACKOFF] - times["backoff_at"] == pytest.approx(4, abs=1e-3)
    assert found == {"failures": "1", "reason": "HTTP 503", "probe": "", "probe_until": "0", "paused": paused}


@pytest.mark.parametrize(("before", "wait"), [("1", 6), ("2", 9), ("3", 9), ("40", 9), ("x", 4)])
def test_failures_in_a_row(run: Scripts, before: str, wait: float) -> None:
    """Growing waits, the last of them for all that follow; the start is kept."""
    given(run, failures=before, since="5", **{BACKOFF: -1})

    assert report(run, "backing_off") == pytest.approx(wait, abs=1e-3)

    assert state(run)["failures"] == str(int(before) + 1 if before.isdigit() else 1)
    assert state(run)["since"] == "5"


@pytest.mark.parametrize(("failures", "left", "wait"), [("2", 50, 50), ("2", 1, 6), ("0", 1, 4)])
def test_a_failure_during_a_backoff(run: Scripts, failures: str, left: float, wait: float) -> None:
    """It counts as the same failure: the count stays, and so does a longer wait."""
    given(run, failures=failures, **{BACKOFF: left})

    assert report(run, "backing_off") == pytest.approx(wait, abs=1)

    assert state(run)["failures"] == failures
