"""The mark by which a fork is noticed: a page that Linux clears, or the process's id."""

import mmap
import subprocess
import sys

import pytest
from birdfeed.runtime import fork_mark
from birdfeed.runtime.fork_mark import _made, _ProcessId

#: In a process of its own, because a fork of C while another thread runs may hang Python in the child.
FORKS = """
import ctypes, os, sys
from birdfeed.runtime.fork_mark import _made, _ProcessId
fork = {"os.fork": os.fork, "a fork of C": ctypes.PyDLL(None).fork}[sys.argv[1]]
mark = {"page": _made, "id": _ProcessId}[sys.argv[2]]()
mark[0] = 1
if (child := fork()) == 0:
    cleared = not mark[0]
    mark[0] = 1
    if (grandchild := fork()) == 0:
        os._exit(7 if mark[0] else 0)
    below = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
    os._exit(below or (0 if cleared and mark[0] else 8))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert mark[0]
"""


@pytest.mark.parametrize("fork", ["os.fork", "a fork of C"])
@pytest.mark.parametrize("made", ["page", "id"])
def test_it_is_cleared_in_each_child(made: str, fork: str) -> None:
    """And stays set in the parent; a child may set it for itself, and its own child finds it cleared again."""
    env = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", FORKS, fork, made], env=env, timeout=30, check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux clears pages at a fork")
def test_on_linux_it_is_a_page() -> None:
    """Asking for the process's id at each call would cost five times as much."""
    assert isinstance(fork_mark.mark, mmap.mmap)


def test_a_kernel_that_clears_no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's id is compared then."""
    monkeypatch.setattr(fork_mark, "_WIPE_ON_FORK", 9_999)

    mark = _made()

    assert isinstance(mark, _ProcessId)
    assert not mark[0]
    mark[0] = 1
    assert mark[0]
    mark[0] = 0
    assert not mark[0]
