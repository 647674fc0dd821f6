"""Requests per second and the read quota. Pure: the time is an argument."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limiter's answer for one request.

    Attributes:
        allowed: Whether the request may continue.
        limit: Requests per second.
        remaining: How many more are allowed now.
        reset_seconds: Whole seconds until the bucket is full.
        retry_after_seconds: Whole seconds until one more is allowed; 0 if one is allowed now.
    """

    allowed: bool
    limit: float
    remaining: int
    reset_seconds: int
    retry_after_seconds: int

    def headers(self) -> dict[str, str]:
        """The headers as Tinybird sends them: on every answer, but Retry-After only on refusals."""
        headers = {
            "X-RateLimit-Limit": str(max(1, math.floor(self.limit))),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }
        if not self.allowed:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return headers


class RateLimiter:
    """A token bucket per key that holds the requests of one second and is refilled steadily."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # (tokens, seconds when they were counted)

    def take(self, key: Hashable, rate: float, now: float) -> Allowance:
        """Take one request from a bucket, which is refilled with `rate` a second; `now` is in monotonic seconds."""
        tokens = self._tokens(key, rate, now)
        allowed = tokens >= 1
        tokens -= allowed
        self._buckets[key] = (tokens, now)
        return _allowance(allowed, tokens, rate)

    def look(self, key: Hashable, rate: float, now: float) -> Allowance:
        """What a bucket holds, without taking from it."""
        return _allowance(True, self._tokens(key, rate, now), rate)

    def _tokens(self, key: Hashable, rate: float, now: float) -> float:
        tokens, counted = self._buckets.get(key, (max(1.0, rate), now))
        return min(max(1.0, rate), tokens + (now - counted) * rate)

    def clear(self) -> None:
        """Fill every bucket."""
        self._buckets.clear()


def _allowance(allowed: bool, tokens: float, rate: float) -> Allowance:
    return Allowance(
        allowed=allowed,
        limit=rate,
        remaining=math.floor(tokens),
        reset_seconds=math.ceil((max(1.0, rate) - tokens) / rate),
        retry_after_seconds=0 if allowed else max(1, math.ceil((1 - tokens) / rate)),
    )
