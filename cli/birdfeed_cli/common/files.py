"""File arguments of commands: a name, or - for standard input."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from birdfeed_cli.common.errors import WrongUse


@contextmanager
def open_input(file: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; raises WrongUse if it can't be read."""
    with file_errors(f"can't read {file}"):
        if file == "-":
            yield sys.stdin.buffer
            return
        with Path(file).open("rb") as stream:
            yield stream


@contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Turn errors of files in the block into WrongUse, which says that `what` can't be done, and why."""
    try:
        yield
    except OSError as error:
        raise WrongUse(f"{what}: {error.strerror or error}") from None
