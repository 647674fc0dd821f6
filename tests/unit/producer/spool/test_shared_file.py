"""What https://sqlite.org/howtocorrupt.html warns of, as a spool can meet it: renames, forks, calls in a transaction.

An event whose `add_event` returned is in the spool's file, or in one that was renamed after that.
"""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from birdfeed.encoding.batch import PackedBatch, lines_of, pack
from birdfeed.errors import SpoolError
from birdfeed.spool import database
from birdfeed.spool import forget as forgetting
from birdfeed.spool.store import Spool

from tests.support.producer.apps.run import environment

#: Moves a spool's file away.
Move = Callable[[Path, pytest.MonkeyPatch], None]
#: Opens the spool and forks as its first argument says; the parent ends, and the child adds two events and says how
#: many others see after each.
FORK = """
import os, subprocess, sys
from pathlib import Path
import birdfeed
from birdfeed.spool.store import Spool
from tests.support.producer.apps.spool_user import LOOK, fork_of_c

path, ended = Path(sys.argv[2]), os.pipe()
spools = [Spool(path, max_bytes=10**6) for _ in range(2)]
for spool in spools:
    spool.totals()
if sys.argv[3] == "a dropped one":
    spool = spools = None
if {"os.fork": os.fork, "a fork of C": fork_of_c}[sys.argv[1]]():
    os._exit(0)
os.close(ended[1])
os.read(ended[0], 1)  # until the parent has ended
if sys.argv[3] != "the parent's":
    spools = [*(spools or ()), Spool(path, max_bytes=10**6)]
for _ in range(2):
    spools[-1].add_event("text_generation", b"{}", 0)
    print(subprocess.run([sys.executable, "-c", LOOK, path], capture_output=True, text=True).stdout, flush=True)
"""


def event(number: int) -> bytes:
    return b'{"number":%d}' % number


def batch() -> PackedBatch:
    return pack("text_generation", [b"{}"], compression=0)


def lines(path: Path) -> list[bytes]:
    """Every event in a spool, by a connection of its own."""
    with closing(Spool(path, max_bytes=10**6)) as spool:
        batches, _ = spool.collect(batch_events=100, batch_bytes=10**6, compression=0)
    return [line for one in batches for line in lines_of(one)]


@contextmanager
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if another process did it, while this one uses the spool."""
    with monkeypatch.context() as patch:
        patch.setattr(database._use, "_process", 0)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite3"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with closing(Spool(path, max_bytes=10**6)) as spool:
        yield spool


@pytest.fixture
def other(path: Path) -> Iterator[Spool]:
    """Another process's, as far as SQLite is concerned."""
    with closing(Spool(path, max_bytes=10**6)) as spool:
        yield spool


@pytest.mark.parametrize(
    ("fork", "which"),
    [
        ("os.fork", "the parent's"),
        ("os.fork", "a dropped one"),
        ("a fork of C", "the parent's"),
        ("a fork of C", "a new one"),
    ],
)
def test_a_child_has_locks_of_its_own(path: Path, fork: str, which: str) -> None:
    """Else the next process to close the spool would take itself for the last one, and delete the child's log.

    A daemon forks itself away after its first event; a server of C forks without Python's hooks.
    """
    command = [sys.executable, "-c", FORK, fork, str(path), which]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "2"]


def test_an_event_tracked_inside_a_transaction_leaves_it_whole(
    spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler or a __del__ tracks while the same thread writes: its event waits in memory."""
    inner: list[str] = []

    def track(number: int, frame: FrameType | None) -> None:
        with pytest.raises(SpoolError, match="in use"):
            spool.add_event("text_generation", event(2), 0)
        inner.append("refused")

    insert = spool._insert_event

    def interrupted(*arguments: Any) -> bool:
        stored = insert(*arguments)
        signal.raise_signal(signal.SIGUSR1)
        return stored

    monkeypatch.setattr(spool, "_insert_event", interrupted)
    before = signal.signal(signal.SIGUSR1, track)
    try:
        assert spool.add_event("text_generation", event(1), 0) == (True, {})
    finally:
        signal.signal(signal.SIGUSR1, before)

    monkeypatch.undo()
    spool.add_event("text_generation", event(3), 0)
    assert inner == ["refused"]
    assert lines(path) == [event(1), event(3)]


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(
    spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler forks: both processes continue the transaction, and only one may commit it."""
    insert, children = spool._insert_event, []

    def interrupted(*arguments: Any) -> bool:
        children.append(os.fork())
        return insert(*arguments)

    monkeypatch.setattr(spool, "_insert_event", interrupted)
    refused = 0
    try:
        spool.add_event("text_generation", event(1), 0)
    except SpoolError:
        refused += 1
    if children == [0]:  # in the child, another spool is refused too: SQLite's list of locks is the parent's
        try:
            Spool(path, max_bytes=10**6).totals()
        except SpoolError:
            refused += 1
        os._exit(refused)

    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 2
    assert refused == 0
    monkeypatch.undo()
    assert lines(path) == [event(1)]


def test_two_processes_that_find_the_damage_rename_the_file_once(
    spool: Spool, other: Spool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one would rename the new file, with the events that are in it."""
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 100)
    rename = spool._file._set_aside

    def late() -> None:
        with elsewhere(monkeypatch):
            with pytest.raises(SpoolError, match="can't be used"):
                other.add_event("text_generation", event(1), 0)
            other.add_event("text_generation", event(2), 0)
        rename()

    monkeypatch.setattr(spool._file, "_set_aside", late)
    with pytest.raises(SpoolError, match="can't be used"):
        spool.add_event("text_generation", event(3), 0)

    spool.add_event("text_generation", event(4), 0)
    other.add_event("text_generation", event(5), 0)
    assert lines(path) == [event(2), event(4), event(5)]


def test_a_file_is_not_renamed_while_another_process_opens_it(spool: Spool, path: Path) -> None:
    """That process would use the renamed file with the log of the new one; nor is a file opened while it is renamed."""
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 100)
    opening = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(opening, fcntl.LOCK_SH)
        with pytest.raises(SpoolError, match="not a database"):
            spool.add_event("text_generation", event(1), 0)
        assert os.listdir(path.parent) == [path.name]

        fcntl.flock(opening, fcntl.LOCK_EX)
        hurried = Spool(path, max_bytes=10**6, busy_seconds=0.01)
        with pytest.raises(SpoolError, match="is busy"):
            hurried.add_event("text_generation", event(1), 0)
    finally:
        os.close(opening)

    with pytest.raises(SpoolError, match="not a database"):
        spool.add_event("text_generation", event(1), 0)
    assert ".damaged-" in os.listdir(path.parent)[0]


def test_a_second_damaged_file_does_not_replace_the_first(spool: Spool, path: Path) -> None:
    """Both stay for a person to look at."""
    for text in (b"one" * 1_000, b"two" * 1_000):
        path.write_bytes(text)
        with pytest.raises(SpoolError, match="can't be used"):
            spool.add_event("text_generation", event(1), 0)

    found = [file.read_bytes()[:3] for file in path.parent.iterdir() if ".damaged-" in file.name]
    assert sorted(found) == [b"one", b"two"]


def moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.replace(path, path.with_name("moved"))


def removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()


def made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    with elsewhere(monkeypatch), closing(Spool(path, max_bytes=10**6)) as new:
        new.add_event("text_generation", b"{}", 0)


@pytest.mark.parametrize("move", [moved, removed, made_anew])
def test_a_file_that_is_moved_while_it_is_opened_is_not_used(
    spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch, move: Move
) -> None:
    """Else every later event of this process would go into the moved file."""
    with closing(Spool(path, max_bytes=10**6)) as first:
        first.totals()
    connect = sqlite3.connect

    def moved_at_once(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(sqlite3, "connect", connect)
        connection = connect(*arguments, **options)
        move(path, monkeypatch)
        return connection

    monkeypatch.setattr(sqlite3, "connect", moved_at_once)
    kept = []
    for number in range(3):
        with suppress(SpoolError):  # then the caller has it
            spool.add_event("text_generation", event(number), 0)
            kept.append(event(number))
    assert kept[-2:] == [event(1), event(2)]
    assert lines(path) == [*([b"{}"] if move is made_anew else []), *kept]


@pytest.mark.parametrize("move", [moved, removed, made_anew])
def test_what_was_written_into_a_file_that_is_moved_meanwhile_is_not_taken_for_kept(
    spool: Spool, path: Path, move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller keeps it in memory."""
    spool.add_event("text_generation", event(1), 0)
    insert = spool._insert_event

    def interrupted(*arguments: Any) -> bool:
        stored = insert(*arguments)
        move(path, monkeypatch)
        return stored

    monkeypatch.setattr(spool, "_insert_event", interrupted)
    with pytest.raises(SpoolError, match="moved or removed"):
        spool.add_event("text_generation", event(2), 0)
    monkeypatch.undo()
    spool.add_event("text_generation", event(3), 0)
    assert lines(path) == [*([b"{}"] if move is made_anew else []), event(3)]


def test_forget_finds_an_event_that_is_packed_meanwhile(
    spool: Spool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single events become a batch after `forget` has listed them."""
    for number in range(3):
        spool.add_event("text_generation", event(number), 0)
    look = forgetting._single

    def late(*arguments: Any, **options: Any) -> None:
        packed, _ = spool.collect(batch_events=100, batch_bytes=10**6, compression=0)
        spool.release(packed, unsure=False)
        look(*arguments, **options)

    monkeypatch.setattr(forgetting, "_single", late)
    assert forgetting.forget(path, lambda _, line: line == event(2)) == forgetting.Forgotten(events=1)
    (left,), _ = spool.claim(100)
    assert list(lines_of(left)) == [event(0), event(1)]


def test_a_batch_that_never_fits_drops_no_other(path: Path) -> None:
    """With the policy "oldest" it would have the whole spool dropped, and then be dropped itself."""
    small = batch()
    large = pack("text_generation", [os.urandom(10_000).hex().encode()], compression=0)
    with closing(Spool(path, max_bytes=5_000, drop_oldest=True)) as spool:
        spool.add([small])
        assert spool.add([large]) == (0, {("text_generation", "spool_full"): 1})
        assert spool.add_event("text_generation", b"x" * 10_000, 0)[0] is False
        assert [one.id for one in spool.batches()] == [small.id]
