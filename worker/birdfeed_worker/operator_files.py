"""Files that operators keep: tokens, tiers, price books. Read them within bounds, and see when they have changed."""

import os
from pathlib import Path


def read_text(path: Path, most: int, encoding: str = "utf-8") -> str:
    """A file's text; a wrong path, such as that of a log or a device, must not fill the memory.

    Raises:
        OSError: It can't be read.
        ValueError: It isn't text in that encoding, or has more than `most` characters.
    """
    with path.open(encoding=encoding) as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"it has more than {most:,} characters")
    return text


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Values that change with the file (time, size, inode); None if it can't be examined."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
