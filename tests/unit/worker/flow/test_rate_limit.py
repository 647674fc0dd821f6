"""The pool's limiter, as its workers see it."""

import time
from concurrent.futures import ThreadPoolExecutor

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.flow.rate_limit import RateLimiter
from redis import Redis

from tests.support.worker.writing import limiter_of


def test_an_answer_from_before_does_not_open_what_was_closed_since(limiter: RateLimiter) -> None:
    """Two requests under way: one is told to wait 30 s, the other's 200 comes after that."""
    early = limiter.admit("llm_events", 1)
    limiter.back_off("llm_events", 30.0, "HTTP 429")
    limiter.available("llm_events", early)

    assert limiter.admit("llm_events", 1).wait > 29


def test_a_probe_that_finds_out_nothing_lets_another_one_ask(limiter: RateLimiter, redis: Redis) -> None:
    """A single row that is refused says nothing of the store; others must not wait for a probe's whole time."""
    limiter.back_off("llm_events", 0.0, "HTTP 503")
    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", "backoff_until", "0")
    assert limiter.admit("llm_events", 1).probe
    with ThreadPoolExecutor(1) as other:
        assert other.submit(limiter.admit, "llm_events", 1).result().wait > 0
        limiter.inconclusive("llm_events")
        assert other.submit(limiter.admit, "llm_events", 1).result().wait == 0


def test_the_pools_rates_hold_from_the_first_second_on(redis: Redis, keys: Keys) -> None:
    """Two workers after a pause, as fast as they can: never more than the rates, in requests and in bytes."""
    pacers = [limiter_of(redis, keys, name, 50, 1_000_000) for name in ("w1", "w2")]
    for destination, size, rate in (("llm_events", 1, 50.0), ("image_events", 40_000, 25.0)):
        began, admitted = time.monotonic(), 0
        while time.monotonic() < began + 0.6:
            admitted += sum(limiter.admit(destination, size).wait == 0 for limiter in pacers)
        # One that is let through at once, and the bucket's twentieth of a second.
        assert admitted <= rate * (time.monotonic() - began + 0.05) + 1
        assert admitted > 1


def failures(redis: Redis) -> object:
    return redis.hget("rq:birdfeed:birdfeed:destination:llm_events", "failures")


def test_failures_of_requests_that_were_under_way_together_are_one(limiter: RateLimiter, redis: Redis) -> None:
    """Ten answers of one outage don't make the pool wait as if it had failed ten times over."""
    waits = [limiter.back_off("llm_events", None, "HTTP 503") for _ in range(10)]

    assert failures(redis) == b"1"
    assert max(waits) <= 1.0, "the first wait, retry_base"

    redis.hset("rq:birdfeed:birdfeed:destination:llm_events", "backoff_until", "0")
    assert limiter.back_off("llm_events", None, "HTTP 503") > max(waits), "the next failure counts"
    assert failures(redis) == b"2"


def test_a_shorter_wait_replaces_no_longer_one(limiter: RateLimiter) -> None:
    """A 429 that asked for a minute, and a 503 that was under way: the minute is waited for."""
    limiter.back_off("llm_events", 60.0, "HTTP 429")

    assert limiter.back_off("llm_events", None, "HTTP 503") > 55
    assert limiter.admit("llm_events", 1).wait > 55
