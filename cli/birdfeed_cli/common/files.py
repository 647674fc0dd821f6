"""Files as commands take them: a name, or - for standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """A file's bytes; raises OSError where it can't be read."""
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield stream
