"""Detect that a file has changed, without reading it."""

import os
from pathlib import Path


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Values that change with the file (time, size, inode); None if it can't be examined."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
