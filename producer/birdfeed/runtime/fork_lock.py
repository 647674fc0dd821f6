"""What must not be in the middle of something when the process forks.

A fork copies the memory, but only the forking thread. Where another thread was inside an import, a look-up of a codec
or a host, or SQLite, the child finds a lock that nobody will ever release, or half a module. So such work is done
under a gate, and a fork waits for the gates. There are two, because threads that track events may wait for SQLite,
which takes a few milliseconds, but not for Redis.
"""

import threading
from types import TracebackType
from typing import Final

#: Seconds a fork waits at most for a round: Redis may hang twice, while connecting and before its answer.
_ROUND_SECONDS: Final = 3.0
#: Seconds a fork waits at most for an import or SQLite. These come to an end by themselves, but on a machine with far
#: too much to do an import can take many seconds, and a child forked in its middle would hang.
_IMPORT_SECONDS: Final = 60.0


class Gate:
    """A lock that a forked child finds open. Re-entrant: a signal handler may track an event in the middle."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def close(self, timeout: float) -> None:
        """Before a fork: wait until nobody is inside, but no longer than `timeout` seconds."""
        self._closed = self._lock.acquire(timeout=timeout)

    def reopen(self) -> None:
        """After a fork, in the parent."""
        if self._closed:
            self._closed = False
            self._lock.release()

    def renew(self) -> None:
        """After a fork, in the child: whoever was inside does not exist here."""
        self._closed = False
        self._lock = threading.RLock()


#: Around imports and SQLite.
gate: Final = Gate()
#: Around a round of the flusher. Whoever holds it may enter `gate`; never the other way round.
sending: Final = Gate()


def before() -> None:
    """Before a fork, in the parent."""
    sending.close(_ROUND_SECONDS)
    gate.close(_IMPORT_SECONDS)


def in_parent() -> None:
    """After a fork, in the parent."""
    gate.reopen()
    sending.reopen()


def in_child() -> None:
    """After a fork, in the child."""
    gate.renew()
    sending.renew()
