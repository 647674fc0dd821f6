"""Open and use the spool's SQLite file safely: handle damage, forks and concurrent use."""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.runtime.fork_lock import before_each_fork, import_lock
from birdfeed.spool.location import make_directory, make_file

#: Bytes counted for a row in addition to its payload.
ROW_OVERHEAD: Final = 150
#: SQLite's codes for a damaged file, and for one that is not a database.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, event_type TEXT NOT NULL, events INTEGER NOT NULL,
    size INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL, retried INTEGER NOT NULL, added REAL NOT NULL,
    holder TEXT NOT NULL DEFAULT '', held_until REAL NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, event_type TEXT NOT NULL, line BLOB NOT NULL, dropped_fields INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
    id TEXT PRIMARY KEY, drops TEXT NOT NULL, held_until REAL NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS totals (
    one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL, events INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS batch_in AFTER INSERT ON batches BEGIN
    UPDATE totals SET bytes = bytes + length(new.data) + {ROW_OVERHEAD}, events = events + new.events; END;
CREATE TRIGGER IF NOT EXISTS batch_changed AFTER UPDATE OF data ON batches BEGIN
    UPDATE totals SET bytes = bytes + length(new.data) - length(old.data); END;
CREATE TRIGGER IF NOT EXISTS batch_out AFTER DELETE ON batches BEGIN
    UPDATE totals SET bytes = bytes - length(old.data) - {ROW_OVERHEAD}, events = events - old.events; END;
CREATE TRIGGER IF NOT EXISTS event_in AFTER INSERT ON events BEGIN
    UPDATE totals SET bytes = bytes + length(new.line) + {ROW_OVERHEAD}, events = events + 1; END;
CREATE TRIGGER IF NOT EXISTS event_out AFTER DELETE ON events BEGIN
    UPDATE totals SET bytes = bytes - length(old.line) - {ROW_OVERHEAD}, events = events - 1; END;
"""

#: Seconds that SQLite waits for another process's write while the lock is held; then the lock is released for as long.
_BUSY_WAIT: Final = 0.02
_BUSY_PAUSE: Final = 0.01

#: The files that are open. Strong references: a connection that is dropped stays open until the garbage collector runs,
#: and must be closed before a fork, too.
_open: Final["set[SpoolFile]"] = set()


class _Use:
    """Whether a spool is being used. That is done with import_lock held, so there is at most one use at a time.

    The lock is re-entrant. A signal handler or a __del__ that needs a spool inside a use of its own thread is refused:
    it would end that transaction, become part of it, or wait for it forever. If the process is forked inside a use, the
    child can no longer use a spool: it can't have locks of its own, and must leave the transaction to the parent.
    """

    def __init__(self) -> None:
        self._process = 0

    @property
    def ours(self) -> bool:
        """Whether this process has begun a use, rather than the parent."""
        return self._process == os.getpid()

    @property
    def inherited(self) -> bool:
        """Whether the parent was in a use when it forked this process."""
        return self._process not in {0, os.getpid()}

    @contextlib.contextmanager
    def begin(self) -> Iterator[None]:
        """The use; raises SpoolError inside another."""
        if self._process:
            user = "the process when it was forked" if self.inherited else "the call that this one interrupts"
            raise SpoolError(f"a spool is in use by {user}")
        self._process = os.getpid()
        try:
            yield
        finally:
            if self.ours:
                self._process = 0


_use: Final = _Use()


def require_spool(path: Path) -> None:
    """Check that a file is a spool before opening it as one, which creates tables and renames damaged files.

    Raises:
        SpoolError: It is not a spool, or can't be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error as error:
        raise SpoolError(f"{path} is not a birdfeed spool: {error}") from error
    if not {"batches", "events", "reports", "totals"} <= {name for (name,) in found}:
        raise SpoolError(f"{path} is not a birdfeed spool, but another program's database")


class SpoolFile:
    """A connection to the spool's file, shared by the threads of one process and opened at its first use."""

    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        """`busy_seconds` is how long to wait for another process's transaction."""
        self.path = path
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        #: Device and inode of the file that was opened last.
        self._opened: tuple[int, int] = (0, 0)
        self._process = 0

    def transaction(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A write transaction, committed at the end of the block.

        Raises:
            SpoolError: The file can't be opened, read or written now. A damaged file is renamed first.
        """
        return self._transaction("BEGIN IMMEDIATE")

    def snapshot(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A read transaction: a consistent view of the file. Raises SpoolError as `transaction` does."""
        return self._transaction("BEGIN", "SELECT 1 FROM totals")  # the first read takes the lock, not BEGIN

    def scrub(self) -> None:
        """Erase deleted data from the file's free pages and from the write-ahead log.

        Raises:
            SpoolError: The file can't be written now, or other processes never stop reading it.
        """
        with self.transaction() as connection:
            connection.execute("PRAGMA incremental_vacuum").fetchall()
        deadline = time.monotonic() + self._busy_seconds
        while True:
            with self._transaction() as connection:  # without BEGIN: a checkpoint can't run in a transaction
                (blocked, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not blocked:
                return
            if time.monotonic() >= deadline:
                raise SpoolError(f"the spool {self.path} is busy")
            time.sleep(_BUSY_PAUSE)

    @contextlib.contextmanager
    def _transaction(self, *begin: str) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a new transaction, with the lock held. While another process writes, wait unlocked.

        So a thread that tracks an event waits no longer than its own timeout, while the flusher may wait for longer.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            with self._used(deadline):
                try:
                    connection = self._begun(begin, deadline)
                    if connection is not None:
                        yield from self._ended(connection, commit=bool(begin))
                        return
                except (sqlite3.Error, OSError) as error:
                    raise self._explained(error) from error
            time.sleep(_BUSY_PAUSE)

    def _begun(self, begin: Sequence[str], deadline: float) -> sqlite3.Connection | None:
        """The connection, in a new transaction; None if another process writes, and there is time to wait for it."""
        try:
            connection = self._connect()  # creating the file takes SQLite's lock, too
            for statement in begin:
                connection.execute(statement).fetchall()
        except (BlockingIOError, sqlite3.OperationalError) as error:
            if self._connection is not None:
                self._roll_back(self._connection)
            busy = isinstance(error, BlockingIOError) or error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            return None
        return connection

    def _ended(self, connection: sqlite3.Connection, *, commit: bool) -> Iterator[sqlite3.Connection]:
        """Yield the connection once; then commit, or roll back after an error."""
        try:
            yield connection
            if not _use.ours:
                raise SpoolError(f"the process was forked while it used the spool {self.path}")
            if commit:
                connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        self._require_unmoved()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        # In a forked child, the transaction is the parent's.
        if _use.ours:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to report
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _require_unmoved(self) -> None:
        if self._opened != self._identity():
            raise SpoolError(f"the spool {self.path} was moved or removed while it was used")

    @contextlib.contextmanager
    def _used(self, deadline: float) -> Iterator[None]:
        if not import_lock.acquire(max(0.0, deadline - time.monotonic())):
            raise SpoolError(f"the spool {self.path} is busy")
        try:
            with _use.begin():
                yield
        finally:
            import_lock.release()

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with import_lock:
            if _use.inherited:
                return
            connection, self._connection = self._connection, None
            _open.discard(self)
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):  # nothing more can be done
                    connection.close()

    def close_for_fork(self) -> None:
        """Close the connection, unless it is in use: a child must not inherit it.

        SQLite keeps a list of the locks of its process, and a child would inherit the list but not the locks. The
        child's own connections would then have no lock either (https://sqlite.org/howtocorrupt.html, 2.6).
        """
        if import_lock.acquire(0):
            try:
                if not _use.ours:
                    self.close()
            finally:
                import_lock.release()

    def _connect(self) -> sqlite3.Connection:
        if (
            self._connection is not None
            and self._process == os.getpid()
            and (self._opened == self._identity())  # else it was moved or removed
        ):
            return self._connection
        self.close()
        # After a fork that skipped `close_for_fork`. SQLite warns against this, because a child's copy of a transaction
        # would be rolled back. Without one it is safe: the parent's locks are the kernel's, and keep the log in place.
        for file in list(_open):
            if file._process != os.getpid():
                file.close()
        make_directory(self.path.parent)
        with self._directory_lock(fcntl.LOCK_SH):
            make_file(self.path)
            self._opened = self._identity()
            connection = sqlite3.connect(self.path, timeout=_BUSY_WAIT, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("PRAGMA journal_mode=WAL")  # opens the log, by its name
                self._require_unmoved()
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA journal_size_limit=4000000")
                connection.executescript(_SCHEMA)
            except BaseException:
                connection.close()
                raise
        self._connection, self._process = connection, os.getpid()
        _open.add(self)
        return connection

    @contextlib.contextmanager
    def _directory_lock(self, kind: int) -> Iterator[None]:
        """A lock of the directory: shared to open the file, exclusive to rename it.

        A process that opened the file, but not yet its log, would else use the log of the new file for the old one.

        Raises:
            BlockingIOError: Another process has the lock.
        """
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                # Some network file systems have no such locks.
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing it is not enough, if a fork has copied it
            os.close(descriptor)

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except OSError:
            return (0, 0)
        return found.st_dev, found.st_ino

    def _explained(self, error: sqlite3.Error | OSError) -> SpoolError:
        if isinstance(error, BlockingIOError):
            return SpoolError(f"the spool {self.path} is busy")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            self._set_aside()
        return SpoolError(f"the spool {self.path} can't be used: {error}")

    def _set_aside(self) -> None:
        """Rename a damaged file, so that the next use creates a new one and the old one can be examined."""
        damaged = self._opened
        self.close()
        try:
            with self._directory_lock(fcntl.LOCK_EX):
                if self._identity() != damaged:
                    return  # another process has renamed it, and the file there now is a new one
                renamed = f"{self.path}.damaged-{int(time.time())}"
                while os.path.lexists(renamed):
                    renamed += "1"
                for suffix in ("-wal", "-shm", ""):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{self.path}{suffix}", f"{renamed}{suffix}")
        except OSError:
            return  # another process opens or renames it, or the directory is gone; the next use finds the damage again
        log_throttled(logging.ERROR, "spool damaged", "the spool was damaged; it was renamed to %s", renamed)


def _close_all() -> None:
    for file in list(_open):
        file.close_for_fork()


before_each_fork(_close_all)
