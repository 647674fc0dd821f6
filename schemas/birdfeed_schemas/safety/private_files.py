"""Folders and files that other users of the machine can't read: they hold events and tokens."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077


def private_folder(folder: Path, *, ours: str) -> None:
    """Create a folder that only its user can access, or check that an existing one is private.

    A folder that others can access is made private if that affects nothing else: it is empty, or birdfeed created it.

    Args:
        folder: Created with its parents if it doesn't exist.
        ours: The name of a file that shows that birdfeed created the folder.

    Raises:
        OSError: It can't be created, or other users can access it; `strerror` says what to do.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if not status.st_mode & _OTHERS:
        return
    if status.st_uid == os.geteuid() and ((folder / ours).exists() or not any(folder.iterdir())):
        folder.chmod(0o700)
        return
    reason = "other users of this machine may enter it; `chmod 700` it, or choose another folder"
    raise PermissionError(errno.EACCES, reason, str(folder))


def write_private(file: Path, text: str) -> None:
    """Write a file that only its user can read, even if it replaces a readable one; pipes and devices keep their mode.

    Raises:
        OSError: It can't be written.
    """
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            os.fchmod(stream.fileno(), 0o600)
        stream.write(text)


def secret_in(file: Path, make: Callable[[], str]) -> str:
    """The secret in a file; if the file doesn't exist, it is created for its user alone, with a new secret.

    Raises:
        OSError: The file can't be read or created.
    """
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(make())
    return file.read_text().strip()
