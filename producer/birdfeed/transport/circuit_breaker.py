"""Don't try Redis for about a second after a failure, so that in an outage each process tries once a second."""

import random
from collections.abc import Callable
from typing import Final

#: Seconds between two tries, and the most random jitter added so that many processes don't try at the same time.
PAUSE_SECONDS: Final = 1.0
JITTER_SECONDS: Final = 0.5


class Breaker:
    """Decides whether Redis may be tried now. One thread at a time may use it."""

    def __init__(self, *, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        """`clock` returns monotonic seconds, `jitter` a share from 0 to 1."""
        self._clock = clock
        self._jitter = jitter
        self._closed_until = float("-inf")
        self.state = "unknown"
        #: Whether Redis answered the last try, even with a refusal.
        self.answered = False

    def allows(self) -> bool:
        """Whether Redis may be tried now."""
        return self._clock() >= self._closed_until

    def succeeded(self) -> None:
        """Record a success: Redis accepted."""
        self.state, self.answered = "up", True
        self._closed_until = float("-inf")

    def failed(self, *, answered: bool) -> None:
        """Record a failure: Redis could not be reached, or (`answered`) refused to write."""
        self.state, self.answered = "down", answered
        self._closed_until = self._clock() + PAUSE_SECONDS + JITTER_SECONDS * self._jitter()
