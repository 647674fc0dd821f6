"""The pool's limiter, as its workers see it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.flow import rate_limit
from birdfeed_worker.flow.rate_limit import RateLimiter
from redis import Redis

from tests.support.wait import eventually
from tests.support.worker.writing import limiter_of


def test_an_older_answer_does_not_reopen_a_destination(limiter: RateLimiter) -> None:
    """Two requests in flight: one is told to wait 30 s, then the other gets its 200."""
    early = limiter.admit("llm_events", 1)
    limiter.back_off("llm_events", 30.0, "HTTP 429")
    limiter.available("llm_events", early)

    assert limiter.admit("llm_events", 1).wait > 29


def test_of_many_successes_a_few_a_second_are_reported(
    limiter: RateLimiter, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a probe's always is, because it ends the backoff, and each destination's by itself."""
    key = "rq:birdfeed:birdfeed:destination:llm_events"

    def reported(destination: str = "llm_events") -> bool:
        redis.hdel(key, "last_success")
        limiter.available(destination, limiter.admit(destination, 1))
        return redis.hexists(key, "last_success")

    monkeypatch.setattr(rate_limit, "REPORT_SECONDS", 3_600.0)
    assert [reported(), reported(), reported()] == [True, False, False]

    limiter.back_off("llm_events", 0.0, "HTTP 503")
    redis.hset(key, "backoff_until", "0")
    assert reported()
    assert not limiter.admit("llm_events", 1).probe, "its success ended the backoff"

    limiter.available("image_events", limiter.admit("image_events", 1))
    assert redis.hexists(key.replace("llm", "image"), "last_success")

    monkeypatch.setattr(rate_limit, "REPORT_SECONDS", 0.0)
    assert reported()


def test_after_a_probe_without_result_another_one_may_start(limiter: RateLimiter, redis: Redis) -> None:
    """A single refused row shows nothing about the store; others must not wait for the probe's timeout."""
    limiter.back_off("llm_events", 0.0, "HTTP 503")
    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", "backoff_until", "0")
    assert limiter.admit("llm_events", 1).probe
    with ThreadPoolExecutor(1) as other:
        assert other.submit(limiter.admit, "llm_events", 1).result().wait > 0
        limiter.inconclusive("llm_events")
        assert other.submit(limiter.admit, "llm_events", 1).result().wait == 0


def test_the_pools_rates_apply_from_the_first_second(redis: Redis, keys: Keys) -> None:
    """Two workers send after a pause as fast as they can: never above the rates, in requests and in bytes."""
    pacers = [limiter_of(redis, keys, name, 50, 1_000_000) for name in ("w1", "w2")]
    for destination, size, rate in (("llm_events", 1, 50.0), ("image_events", 40_000, 25.0)):
        began, admitted = time.monotonic(), 0
        while time.monotonic() < began + 0.6:
            admitted += sum(limiter.admit(destination, size).wait == 0 for limiter in pacers)
        # One that is admitted immediately, and the bucket's twentieth of a second.
        assert admitted <= rate * (time.monotonic() - began + 0.05) + 1
        assert admitted > 1


def failures(redis: Redis) -> object:
    return redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "failures")


def test_what_was_sent_at_a_lower_rate_is_waited_for_at_todays(redis: Redis, keys: Keys) -> None:
    """A mistyped rate, corrected: the pool sent nothing for as long as the wrong rate would have asked."""
    slow = limiter_of(redis, keys, requests=0.001, size=1.0)
    assert slow.admit("llm_events", 100_000).wait == 0
    assert slow.admit("llm_events", 1).wait > 900

    fast = limiter_of(redis, keys, requests=10.0, size=1e9)

    assert fast.admit("llm_events", 1).wait < 0.11
    eventually(lambda: fast.admit("llm_events", 1).wait == 0, what="the request is admitted", within=10.0)


def test_failures_of_concurrent_requests_count_once(limiter: RateLimiter, redis: Redis) -> None:
    """Ten answers of one outage don't make the pool wait as after ten failures in a row."""
    waits = [limiter.back_off("llm_events", None, "HTTP 503") for _ in range(10)]

    assert failures(redis) == b"1"
    assert max(waits) <= 1.0, "the first wait, retry_base"

    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", "backoff_until", "0")
    assert limiter.back_off("llm_events", None, "HTTP 503") > max(waits), "the next failure counts"
    assert failures(redis) == b"2"


def test_a_shorter_wait_does_not_replace_a_longer_one(limiter: RateLimiter) -> None:
    """A 429 that asked for a minute, then the 503 of a request in flight: the pool waits the minute."""
    limiter.back_off("llm_events", 60.0, "HTTP 429")

    assert limiter.back_off("llm_events", None, "HTTP 503") > 55
    assert limiter.admit("llm_events", 1).wait > 55
