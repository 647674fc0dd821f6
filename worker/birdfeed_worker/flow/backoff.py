"""How long to wait before the next try."""

import random
from collections.abc import Callable


def backoff(failures: int, *, base: float, cap: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1): doubling, capped, with jitter.

    "Equal jitter": half of it fixed, half drawn, so that a pool never retries in step and never at once
    (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    full = min(cap, base * 2.0 ** min(failures - 1, 32))
    return full / 2 + full / 2 * draw()


def with_jitter(asked: float, draw: Callable[[], float] = random.random) -> float:
    """What a server asked us to wait, and up to a tenth (at least 0.1 s) on top: never less than asked."""
    return asked + max(0.1, asked / 10) * draw()
