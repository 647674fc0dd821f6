"""What all commands print with: tables for people, JSON for machines, and errors in one sentence."""

import sys
from typing import Any

import orjson
from birdfeed_worker.errors import QueryError, TinybirdError
from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

#: Styles that show on light and on dark ground alike; plain yellow doesn't show on white.
NOTE, GOOD_BADGE, WARN_BADGE, BAD_BADGE = "magenta", "black on green", "black on yellow", "bold white on red"

#: Exit codes of every command (docs/operator.md).
OK, PARTLY, USAGE, UNREACHABLE = 0, 1, 2, 3


def store_code(error: TinybirdError) -> int:
    """The exit code where Tinybird doesn't do what it is asked: it doesn't answer now, or the settings are wrong."""
    if not isinstance(error, QueryError) or error.status in (0, 408, 429) or error.status >= 500:
        return UNREACHABLE
    return USAGE


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    sys.stdout.flush()


def fail(message: str, code: int) -> int:
    """Say on standard error what is wrong; returns the exit code."""
    err.print(f"birdfeed: {message}", style="red", markup=False, soft_wrap=True)
    return code
