"""Locks around work during which the process must not fork.

A fork copies the memory, but only the forking thread. If another thread was importing, resolving a codec or a host, or
using SQLite, the child finds a lock that will never be released, or half a module. So such work is done while holding a
ForkLock, and a fork waits for all of them. There is one for imports and SQLite, and one for the rounds of each
pipeline: threads that track events may wait for SQLite, which takes a few milliseconds, but not for Redis.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Final

#: Seconds that a fork waits at most for a round: Redis may hang twice, while connecting and while answering.
ROUND_SECONDS: Final = 3.0
#: Seconds that a fork waits at most for an import or SQLite. These always end, but on an overloaded machine an import
#: can take many seconds, and a child forked during it would hang.
_IMPORT_SECONDS: Final = 60.0


class ForkLock:
    """A lock that is free in a forked child. Re-entrant, because a signal handler may track an event while it is held.

    Several threads may fork at once; each releases what it acquired itself.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long a fork waits for the lock."""
        self._seconds = seconds
        self._lock = threading.RLock()
        #: Forking thread → how often it holds the lock for a fork.
        self._holders: dict[int, int] = {}
        _all.append(weakref.ref(self, _all.remove))

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, seconds: float) -> bool:
        """Acquire it within that time; returns whether that succeeded."""
        return self._lock.acquire(timeout=max(0.0, seconds))

    def release(self) -> None:
        """Release it; does nothing in a child that was forked by a signal handler while its thread held the lock."""
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def hold(self) -> None:
        """Before a fork: wait until no thread holds it, for at most `seconds`."""
        if self._lock.acquire(timeout=self._seconds):
            me = threading.get_ident()
            self._holders[me] = self._holders.get(me, 0) + 1

    def let_go(self) -> None:
        """After a fork, in the parent: undo `hold`, if it succeeded."""
        me = threading.get_ident()
        if (held := self._holders.pop(me, 0)) > 1:
            self._holders[me] = held - 1
        if held:
            self._lock.release()

    def renew(self) -> None:
        """After a fork, in the child: free it, because the thread that held it doesn't exist here."""
        self._holders = {}
        self._lock = threading.RLock()


#: Every ForkLock, in the order of creation.
_all: Final["list[weakref.ref[ForkLock]]"] = []
#: Held around imports and SQLite. A thread in a round may acquire it; never the other way round.
import_lock: Final = ForkLock(_IMPORT_SECONDS)


def _locks() -> list[ForkLock]:
    """The locks in the order of acquisition: those of rounds first, import_lock last."""
    found = [lock for reference in list(_all) if (lock := reference()) is not None]
    return [*(lock for lock in found if lock is not import_lock), import_lock]


#: Called before each fork, in the parent, while the forking thread holds the locks.
_calls: Final[list[Callable[[], None]]] = []


def before_each_fork(call: Callable[[], None]) -> None:
    """Have a function called before each fork, while the locks are held; it must not raise."""
    _calls.append(call)


#: Forking thread → the locks it holds. Several threads may fork at once, and locks may be created meanwhile.
_held: Final[dict[int, list[list[ForkLock]]]] = {}


def before() -> None:
    """Before a fork, in the parent."""
    locks = _locks()
    _held.setdefault(threading.get_ident(), []).append(locks)
    for lock in locks:
        lock.hold()
    for call in _calls:
        call()


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
