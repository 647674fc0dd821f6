"""Requests per second and the read quota. Pure: the time is an argument."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limiter's answer for one request: whether it may continue, and its bucket then; `rate` is per second."""

    allowed: bool
    tokens: float
    rate: float

    def headers(self) -> dict[str, str]:
        """The headers as Tinybird sends them, in whole seconds: on every answer, but Retry-After only on refusals."""
        headers = {
            "X-RateLimit-Limit": str(max(1, math.floor(self.rate))),
            "X-RateLimit-Remaining": str(math.floor(self.tokens)),
            "X-RateLimit-Reset": str(math.ceil((max(1.0, self.rate) - self.tokens) / self.rate)),
        }
        if not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil((1 - self.tokens) / self.rate)))
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
        return Allowance(allowed, tokens, rate)

    def look(self, key: Hashable, rate: float, now: float) -> Allowance:
        """What a bucket holds, without taking from it."""
        return Allowance(True, self._tokens(key, rate, now), rate)

    def _tokens(self, key: Hashable, rate: float, now: float) -> float:
        tokens, counted = self._buckets.get(key, (max(1.0, rate), now))
        return min(max(1.0, rate), tokens + (now - counted) * rate)

    def clear(self) -> None:
        """Fill every bucket."""
        self._buckets.clear()
