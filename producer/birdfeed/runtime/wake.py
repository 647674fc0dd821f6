"""Wake a waiting thread from anywhere: a signal handler, a __del__, another thread.

threading.Event takes a lock of its own that is not re-entrant; a signal handler that tracks an event while this very
thread sets the event would wait for itself for ever. A bare lock is one step in C.
"""

import threading


class Wake:
    """Set many times before a wait, it wakes once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next that waits."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                return  # somebody else did at this moment

    def wait(self, seconds: float) -> None:
        """Wait to be woken, for at most `seconds`."""
        if seconds > 0:
            self._lock.acquire(timeout=seconds)
        else:
            self._lock.acquire(blocking=False)
