"""Where the spool is: one file for each target, in a directory that only this user can access."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from birdfeed.errors import SpoolError
from birdfeed.options import Options

#: Part of the file's name. It changes with the tables, so that two versions never share a file.
_VERSION: Final = 1


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


def make_directory(directory: Path) -> None:
    """Create the spool's directory, readable by this user only.

    Raises:
        SpoolError: It can't be created, or other users could read or change what is written there.
    """
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
        raise SpoolError(f"the spool's directory {directory} belongs to another user, or every user can write to it")
    if _is_open(found) and _has_spools(directory, alone=True):
        directory.chmod(0o700)


def make_file(path: Path) -> None:
    """Create an empty file that only this user can read; SQLite gives its log files the same mode.

    An existing file is never opened: closing it would drop the locks that this process's other connections have
    on it (https://sqlite.org/howtocorrupt.html, 2.2). The next process to close its own connection would then see
    no other, and delete the log that they still write to.

    Raises:
        SpoolError: It can't be created.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if os.stat(path).st_uid == os.geteuid():
            os.chmod(path, 0o600)  # an existing file may be readable by others
    except OSError as error:
        raise SpoolError(f"the spool {path} can't be created: {error.strerror}") from error


def _where(url: str) -> str:
    """A Redis URL without user and password, which may be rotated."""
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("db", [""])[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}?{database}"
