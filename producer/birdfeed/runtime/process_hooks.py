"""Be there when the process ends or forks: exit, multiprocessing children, SIGTERM where asked, fork.

The hooks for exit and fork are installed when birdfeed is imported: one that is registered while others run is never
called, and a program's first event may be tracked in an exit hook of its own. Python offers no hook for a process that
is killed or calls os._exit, and nothing is patched: docs/how-to/handler.md says what saves events there.
"""

import atexit

# Not used here. redis and pydantic-settings import it through asyncio, and it can't be imported any more once the main
# thread has ended; a program that tracks its first event in its last moments would then have no way to send it.
import concurrent.futures.thread  # noqa: F401
import logging
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Final, Protocol

from birdfeed.logging_once import error_location, log_once, logger
from birdfeed.runtime import fork_lock


class Living(Protocol):
    """What the hooks need of a client."""

    def at_exit(self) -> None:
        """Send everything; the process ends."""

    def after_fork(self) -> None:
        """Begin again: this is a forked child."""


_living: Final["weakref.WeakSet[Living]"] = weakref.WeakSet()
#: The process for which multiprocessing's own exit hook was installed.
_finalized_in = 0


def watch(client: Living) -> None:
    """Tell this client of exits and forks."""
    _living.add(client)


def watch_multiprocessing() -> None:
    """Children of multiprocessing leave by os._exit, past atexit, but run multiprocessing's finalizers."""
    global _finalized_in
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None or _finalized_in == os.getpid():
        return
    from multiprocessing.util import Finalize

    _finalized_in = os.getpid()
    # Below 0: after the finalizers of the program itself, which may still track events.
    Finalize(None, _at_exit, exitpriority=-10)


def hook_sigterm() -> None:
    """Make SIGTERM end the program in order, unless somebody handles it already."""
    if threading.current_thread() is not threading.main_thread():
        log_once(
            logging.WARNING,
            "sigterm",
            "sigterm_hook has no effect: call birdfeed.start() from the main thread to install it",
        )
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the program, its own clean-up included; exit hooks run, ours among them.
    raise SystemExit(128 + number)


def _at_exit() -> None:
    for client in list(_living):
        try:
            client.at_exit()
        except Exception as error:
            logger.error("events may be lost: closing failed: %s", error_location(error))


def _after_fork_in_child() -> None:
    fork_lock.in_child()
    for client in list(_living):
        client.after_fork()


os.register_at_fork(before=fork_lock.before, after_in_parent=fork_lock.in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
