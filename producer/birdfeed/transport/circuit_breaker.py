"""Leave Redis alone for about a second after it failed, so that an outage costs one try a second and process."""

import random
from collections.abc import Callable
from typing import Final

#: Seconds between two tries, and the most that chance adds so that many processes don't try in step.
PAUSE_SECONDS: Final = 1.0
JITTER_SECONDS: Final = 0.5


class Breaker:
    """Whether Redis may be tried now. Used by one thread at a time."""

    def __init__(self, *, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        """`clock` gives monotonic seconds, `jitter` a share from 0 to 1."""
        self._clock = clock
        self._jitter = jitter
        self._closed_until = float("-inf")
        self.state = "unknown"
        #: Whether the last try got an answer, a refusal too.
        self.answered = False

    def allows(self) -> bool:
        """Whether Redis may be tried now."""
        return self._clock() >= self._closed_until

    def succeeded(self) -> None:
        """Redis answered as it should."""
        self.state, self.answered = "up", True
        self._closed_until = float("-inf")

    def failed(self, *, answered: bool) -> None:
        """Redis could not be reached, or (`answered`) refused to write."""
        self.state, self.answered = "down", answered
        self._closed_until = self._clock() + PAUSE_SECONDS + JITTER_SECONDS * self._jitter()
