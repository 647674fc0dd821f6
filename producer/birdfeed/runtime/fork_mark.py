"""How a process notices that it is a fork for which no hook of Python ran.

A server written in C may fork by itself and not run them; uWSGI doesn't unless an option says so. Linux clears a page
of memory in every child (MADV_WIPEONFORK in madvise(2)), and reading a byte of it takes 0.02 µs. Asking for the id of
the process, which is compared on other systems, takes 0.1.
"""

import mmap
import os
from typing import Final

#: Its number in Linux's headers; the mmap module has no name for it.
_WIPE_ON_FORK: Final = 18


class _ProcessId:
    """Does what the page does, by the process's id."""

    def __init__(self) -> None:
        self._process = 0

    def __getitem__(self, at: int) -> int:
        return self._process == os.getpid()

    def __setitem__(self, at: int, value: int) -> None:
        self._process = os.getpid() if value else 0


def _made() -> mmap.mmap | _ProcessId:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):  # not Linux, or older than 4.14
        return _ProcessId()
    try:
        page.madvise(-1)
    except OSError:
        return page
    return _ProcessId()  # an emulator that accepts any advice and follows none


#: `mark[0]` is 0 in a fork, until process_hooks.py has started again in it.
mark: Final = _made()
mark[0] = 1
