"""Open the spool's SQLite file safely: check who owns its directory, and handle damage, forks and concurrent use."""

import contextlib
import hashlib
import logging
import os
import sqlite3
import stat
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_throttled
from birdfeed.options import Options
from birdfeed.runtime.fork_lock import before_each_fork, import_lock

#: Bytes counted for a row in addition to its payload.
ROW_OVERHEAD: Final = 150
#: SQLite's codes for a damaged file, and for one that is not a database.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Part of the file's name. It changes with the tables, so that two versions never share a file.
_VERSION: Final = 1

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

#: Connections that a forked child inherited, because the fork was not Python's or could not wait. SQLite forbids using
#: or closing them there.
_inherited: list[sqlite3.Connection] = []
#: The files that are open.
_open: Final["weakref.WeakSet[SpoolFile]"] = weakref.WeakSet()


def spool_path(options: Options) -> Path:
    """The spool's file: one for each Redis, key prefix and queue, so that staging's is never sent to production."""
    target = f"{_where(options.redis_url_text)}|{options.key_prefix}|{options.queue}"
    digest = hashlib.sha256(target.encode()).hexdigest()[:16]
    return private_directory(options.spool_directory) / f"spool-v{_VERSION}-{digest}.sqlite3"


def private_directory(directory: Path) -> Path:
    """The directory itself, or a subdirectory that only this user can access.

    It is the subdirectory if the directory is shared, as a container's volume is, or if others can access it and it
    holds other files: then birdfeed must not change its mode.
    """
    try:
        found = os.stat(directory)
        own = not _is_shared(found) and (not _is_open(found) or _has_spools(directory, alone=False))
    except OSError:
        return directory
    return directory if own else directory / f"birdfeed-{os.geteuid()}"


def _is_open(found: os.stat_result) -> bool:
    """Whether other users can access a directory."""
    return found.st_uid == os.geteuid() and bool(found.st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _has_spools(directory: Path, *, alone: bool) -> bool:
    """Whether a directory is empty or holds spools (with `alone`: and nothing else)."""
    spools = [name.startswith("spool-v") for name in os.listdir(directory)]
    return all(spools) or (any(spools) and not alone)


def _is_shared(found: os.stat_result) -> bool:
    """Whether other users can write to a directory, or one of them owns it."""
    return bool(found.st_mode & stat.S_IWOTH) or found.st_uid not in {os.geteuid(), 0}


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
        self._opened: tuple[int, int] = (0, 0)
        self._process = 0

    def exists(self) -> bool:
        """Whether there is a file; nothing is opened."""
        return self.path.exists()

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
        try:
            with self._begun(begin) as connection:
                try:
                    yield connection
                    if connection.in_transaction:
                        connection.execute("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise
        except sqlite3.Error as error:
            raise self._explained(error) from error

    @contextlib.contextmanager
    def _begun(self, begin: Sequence[str]) -> Iterator[sqlite3.Connection]:
        """A connection in a new transaction, with the lock held. While another process writes, it waits unlocked.

        So a thread that tracks an event waits no longer than its own timeout, while the flusher may wait for longer.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            with self._locked(deadline):
                try:
                    connection = self._connect()  # creating the file takes SQLite's lock, too
                    for statement in begin:
                        connection.execute(statement).fetchall()
                except sqlite3.OperationalError as error:
                    if self._connection is not None:
                        _roll_back(self._connection)
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                        raise
                else:
                    yield connection
                    return
            time.sleep(_BUSY_PAUSE)

    @contextlib.contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        if not import_lock.acquire(max(0.0, deadline - time.monotonic())):
            raise SpoolError(f"the spool {self.path} is busy")
        try:
            yield
        finally:
            import_lock.release()

    def check(self) -> Path:
        """Check that the file can be created and written; returns its path.

        Raises:
            SpoolError: It can't; `reason` says why.
        """
        self._make_directory()
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise SpoolError(f"the spool's directory {self.path.parent} is not writable")
        return self.path

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with import_lock:
            connection, self._connection = self._connection, None
            _open.discard(self)
            if connection is None:
                return
            if self._process != os.getpid():
                _inherited.append(connection)
                return
            with contextlib.suppress(sqlite3.Error):  # nothing more can be done
                connection.close()

    def close_for_fork(self) -> None:
        """Close the connection, unless it is in use: a child must not inherit it.

        SQLite keeps a list of the locks of its process, and a child would inherit the list but not the locks. The
        child's own connections would then have no lock either (https://sqlite.org/howtocorrupt.html, 2.6).
        """
        if import_lock.acquire(0):
            try:
                if self._connection is not None and not self._connection.in_transaction:
                    self.close()
            finally:
                import_lock.release()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._process == os.getpid() and self._opened == self._identity():
                return self._connection
            self.close()  # the process has forked, or the file was moved or removed
        self._make_directory()
        self._make_file()
        connection = sqlite3.connect(self.path, timeout=_BUSY_WAIT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA journal_size_limit=4000000")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection, self._process, self._opened = connection, os.getpid(), self._identity()
        _open.add(self)
        return connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except OSError:
            return (0, 0)
        return found.st_dev, found.st_ino

    def _make_directory(self) -> None:
        directory = self.path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = os.stat(directory)
        except OSError as error:
            raise SpoolError(f"the directory {directory} can't be created: {error.strerror}") from error
        # In a shared place such as /tmp somebody else may have made it first, to read or change what we write.
        # Another user could make it lead to a directory of ours that is for something else.
        if directory.is_symlink() and _is_shared(os.stat(directory.parent)):
            raise SpoolError(f"the spool's directory {directory} is a link in a directory that every user can write to")
        if _is_shared(found):
            raise SpoolError(
                f"the spool's directory {directory} belongs to another user, or every user can write to it"
            )
        if _is_open(found) and _has_spools(directory, alone=True):
            directory.chmod(0o700)

    def _make_file(self) -> None:
        """Create an empty file that only this user can read; SQLite gives its log files the same mode.

        An existing file is never opened: closing it would drop the locks that this process's other connections have
        on it (https://sqlite.org/howtocorrupt.html, 2.2). The next process to close its own connection would then see
        no other, and delete the log that they still write to.
        """
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            if os.stat(self.path).st_uid == os.geteuid():
                os.chmod(self.path, 0o600)  # an existing file may be readable by others
        except OSError as error:
            raise SpoolError(f"the spool {self.path} can't be created: {error.strerror}") from error

    def _explained(self, error: sqlite3.Error) -> SpoolError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            self._set_aside()
        return SpoolError(f"the spool {self.path} can't be used: {error}")

    def _set_aside(self) -> None:
        """Rename a damaged file, so that the next use creates a new one and the old one can be examined."""
        renamed = f"{self.path}.damaged-{int(time.time())}"
        with import_lock:
            self.close()
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{renamed}{suffix}")
        log_throttled(logging.ERROR, "spool damaged", "the spool was damaged; it was renamed to %s", renamed)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # the first error is the one to report
            connection.execute("ROLLBACK")


def _where(url: str) -> str:
    """A Redis URL without user and password, which may be rotated."""
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", [""])[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}?{database}"


def _close_all() -> None:
    for file in list(_open):
        file.close_for_fork()


before_each_fork(_close_all)
