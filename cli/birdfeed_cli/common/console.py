"""How all commands print: tables for people, JSON for machines, errors as one sentence."""

import sys
from typing import Any

import orjson
from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Styles that are readable on light and on dark background; plain yellow is not, on white.
NOTE, GOOD_BADGE, WARN_BADGE, BAD_BADGE = "magenta", "black on green", "black on yellow", "bold white on red"

#: Exit codes of every command (docs/reference/outcomes.md).
OK, PARTLY, USAGE, UNREACHABLE = 0, 1, 2, 3


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    sys.stdout.flush()


def warn(message: str) -> None:
    """Print a note on standard error."""
    err.print(message, style=NOTE, markup=False, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Print on standard error what is wrong; returns the exit code."""
    err.print(f"birdfeed: {message}", style="red", markup=False, soft_wrap=True)
    return code
