"""Hooks for the process's exit and forks: atexit, multiprocessing's children, SIGTERM if a setting says so, fork.

The hooks for exit and fork are installed when birdfeed is imported: a hook that is registered while others run is never
called, and a program may track its first event in an exit hook of its own. Python has no hook for a process that is
killed or calls os._exit, and nothing is patched: docs/how-to/handler.md says how to save events there. A fork that runs
no hooks is noticed at the next call (fork_mark.py).
"""

import atexit

# Not used here. redis and pydantic-settings import it through asyncio, and it can't be imported once the main thread
# has ended; a program that tracks its first event during shutdown could then not send it.
import concurrent.futures.thread  # noqa: F401
import logging
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Final, Protocol

from uuid_utils import reseed_rng

from birdfeed.logging_once import error_location, log_once, logger
from birdfeed.runtime import fork_lock
from birdfeed.runtime.fork_mark import mark


class Living(Protocol):
    """The methods of a client that the hooks call."""

    def at_exit(self) -> None:
        """Send everything: the process exits."""

    def after_fork(self) -> None:
        """Start again: this is a forked child."""


_living: Final["weakref.WeakSet[Living]"] = weakref.WeakSet()
#: The id of the process for which a multiprocessing finalizer was installed.
_finalized_in = 0
#: The id of the forked process that has started again.
_started_in = 0
_noticing: Final = threading.RLock()


def watch(client: Living) -> None:
    """Notify this client of exits and forks."""
    _living.add(client)


def watch_multiprocessing() -> None:
    """Register a finalizer: multiprocessing's children exit by os._exit, which skips atexit, but run finalizers."""
    global _finalized_in
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None or _finalized_in == os.getpid():
        return
    from multiprocessing.util import Finalize

    _finalized_in = os.getpid()
    # Below 0: after the program's own finalizers, which may still track events.
    Finalize(None, _at_exit, exitpriority=-10)


def hook_sigterm() -> None:
    """Make SIGTERM exit the program normally, unless it has a handler already."""
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
    # SystemExit unwinds the program, with its own clean-up, and runs the exit hooks, birdfeed's among them.
    raise SystemExit(128 + number)


def _at_exit() -> None:
    notice_fork()
    for client in list(_living):
        try:
            client.at_exit()
        except Exception as error:
            logger.error("events may be lost: closing failed: %s", error_location(error))


def _start_again() -> None:
    """In a forked child: nothing tracked before is this process's to send, and the flusher's thread doesn't run."""
    global _started_in
    fork_lock.in_child()
    reseed_rng()  # uuid-utils has a hook of its own, but that may not have run either
    for client in list(_living):
        if _started_in == os.getpid():
            return  # a signal handler has tracked an event meanwhile
        client.after_fork()
    _started_in = os.getpid()
    mark[0] = 1


def _after_fork_in_child() -> None:
    if _started_in != os.getpid():  # an earlier hook may have tracked an event
        _start_again()


def notice_fork() -> None:
    """If this is a forked child in which Python's hooks didn't run, do now what ours would have done."""
    if mark[0]:
        return
    with _noticing:  # of several threads, the others wait until the first has done it
        if not mark[0]:
            _start_again()


os.register_at_fork(before=fork_lock.before, after_in_parent=fork_lock.in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
