"""Folders and files that other users of the machine can't look into: what is kept there are events and tokens."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077


def private_folder(folder: Path, *, ours: str) -> None:
    """Make a folder that its user alone may enter, or make sure that it is one.

    An open one is closed where nobody can be hurt by that: it is empty, or birdfeed made it earlier.

    Args:
        folder: Made with its parents where it isn't there.
        ours: A file that birdfeed leaves in it: the sign that it is a folder for this alone.

    Raises:
        OSError: It can't be made, or other users may enter it; `strerror` says what to do.
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
    """Write a file for its user alone, also over one that others could read; pipes and devices stay as they are.

    Raises:
        OSError: It can't be written.
    """
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            os.fchmod(stream.fileno(), 0o600)
        stream.write(text)


def secret_in(file: Path, make: Callable[[], str]) -> str:
    """The secret that a file holds; made where the file isn't there, for its user alone.

    Raises:
        OSError: The file can't be read or made.
    """
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(make())
    return file.read_text().strip()
