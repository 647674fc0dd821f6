"""Wake a waiting thread from anywhere: a signal handler, a __del__, another thread.

threading.Event has an internal lock that is not re-entrant: a signal handler that tracks an event while the same thread
is setting the Event would deadlock. Releasing a bare lock is a single step in C.
"""

import threading


class Wake:
    """A wake-up signal. Setting it several times before a wait wakes the thread once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next one that waits."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                return  # another thread has just done so

    def wait(self, seconds: float) -> None:
        """Wait for the signal, for at most `seconds`."""
        if seconds > 0:
            self._lock.acquire(timeout=seconds)
        else:
            self._lock.acquire(blocking=False)
