"""Files as commands take them: a name, or - for standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from birdfeed_cli.common.errors import WrongUse


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """A file's bytes; raises WrongUse where it can't be read."""
    with file_errors(f"can't read {file}"):
        if file == "-":
            yield sys.stdin.buffer
            return
        with Path(file).open("rb") as stream:
            yield stream


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Raises WrongUse where a file can't be used: `what` can't be done, and why."""
    try:
        yield
    except OSError as error:
        raise WrongUse(f"{what}: {error.strerror or error}") from None
