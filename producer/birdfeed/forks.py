"""What must not be in the middle of something when the process forks.

A fork copies the memory, but only the forking thread. Where another thread held a lock inside an import or inside
SQLite, the child would wait for it for ever. Such work is done under `gate`, and a fork waits for the gate.
"""

import threading
from typing import Final

#: Held during imports and SQLite calls. Re-entrant: a signal handler may track an event in the middle.
gate: Final = threading.RLock()

#: Seconds a fork waits at most; SQLite may wait that long for another process.
_PATIENCE_SECONDS: Final = 3.0

_acquired = False


def close_gate() -> None:
    """Before a fork, in the parent."""
    global _acquired
    _acquired = gate.acquire(timeout=_PATIENCE_SECONDS)


def open_gate() -> None:
    """After a fork, in the parent and in the child; the forking thread holds the gate in both."""
    if _acquired:
        gate.release()
