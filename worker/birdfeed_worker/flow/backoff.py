"""How long to wait before the next try."""

import random
from collections.abc import Callable


def backoff(failures: int, *, base: float, cap: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1): doubling, capped, with jitter.

    It uses "equal jitter": half of it is fixed, half random, so that the workers of a pool don't retry at the same time
    and none retries immediately (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    full = min(cap, base * 2.0 ** min(failures - 1, 32))
    return full / 2 + full / 2 * draw()


def with_jitter(asked: float, draw: Callable[[], float] = random.random) -> float:
    """The seconds that a server asked for, plus up to a tenth (at least 0.1 s): never less than it asked for."""
    return asked + max(0.1, asked / 10) * draw()
