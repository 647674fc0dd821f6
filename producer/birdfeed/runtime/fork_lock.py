"""What must not be in the middle of something when the process forks.

A fork copies the memory, but only the forking thread. Where another thread was inside an import, a look-up of a codec
or a host, or SQLite, the child finds a lock that nobody will ever release, or half a module. So such work is done
holding a ForkLock, and a fork waits for them all. There is one for imports and SQLite, and one for the rounds of each
pipeline: threads that track events may wait for SQLite, which takes a few milliseconds, but not for Redis.
"""

import threading
import weakref
from types import TracebackType
from typing import Final

#: Seconds a fork waits at most for a round: Redis may hang twice, while connecting and before its answer.
ROUND_SECONDS: Final = 3.0
#: Seconds a fork waits at most for an import or SQLite. These come to an end by themselves, but on a machine with far
#: too much to do an import can take many seconds, and a child forked in its middle would hang.
_IMPORT_SECONDS: Final = 60.0


class ForkLock:
    """A lock that a forked child finds open. Re-entrant: a signal handler may track an event in the middle.

    Several threads may fork at once; each releases what it holds itself.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long a fork waits for it."""
        self._seconds = seconds
        self._lock = threading.RLock()
        #: Forking thread → how often it holds the lock for a fork.
        self._holders: dict[int, int] = {}
        _all.append(weakref.ref(self, _all.remove))

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def acquire(self, seconds: float) -> bool:
        """Enter it within that time; whether that succeeded. `release` leaves it."""
        return self._lock.acquire(timeout=max(0.0, seconds))

    def release(self) -> None:
        """Leave it."""
        self._lock.release()

    def hold(self) -> None:
        """Before a fork: wait until nobody is inside, but no longer than a while."""
        if self._lock.acquire(timeout=self._seconds):
            me = threading.get_ident()
            self._holders[me] = self._holders.get(me, 0) + 1

    def let_go(self) -> None:
        """After a fork, in the parent: undo `hold`, where it succeeded."""
        me = threading.get_ident()
        if (held := self._holders.pop(me, 0)) > 1:
            self._holders[me] = held - 1
        if held:
            self._lock.release()

    def renew(self) -> None:
        """After a fork, in the child: whoever was inside does not exist here."""
        self._holders = {}
        self._lock = threading.RLock()


#: Every ForkLock there is, in the order in which they were made.
_all: Final["list[weakref.ref[ForkLock]]"] = []
#: Around imports and SQLite. Whoever is inside a round may enter it; never the other way round.
import_lock: Final = ForkLock(_IMPORT_SECONDS)


def _locks() -> list[ForkLock]:
    """The locks in the order in which they are taken: rounds first, imports last."""
    found = [lock for reference in list(_all) if (lock := reference()) is not None]
    return [*(lock for lock in found if lock is not import_lock), import_lock]


#: What the forking thread holds; by thread, for several may fork at once, and a lock may be made meanwhile.
_held: Final[dict[int, list[list[ForkLock]]]] = {}


def before() -> None:
    """Before a fork, in the parent."""
    locks = _locks()
    _held.setdefault(threading.get_ident(), []).append(locks)
    for lock in locks:
        lock.hold()


def in_parent() -> None:
    """After a fork, in the parent."""
    stack = _held.get(threading.get_ident())
    if stack:
        for lock in reversed(stack.pop()):
            lock.let_go()


def in_child() -> None:
    """After a fork, in the child."""
    _held.clear()
    for lock in _locks():
        lock.renew()
