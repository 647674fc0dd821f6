"""Notice that a file was changed, without reading it."""

import os
from pathlib import Path


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does (time, size, inode); None where it can't be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
