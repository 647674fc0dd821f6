"""Output of all commands: tables or JSON, and errors as one sentence.

Output may contain untrusted names. The consoles here make sure that none of it is read as markup, moves the cursor or
begins a line, so that commands need not care.
"""

import sys
from collections.abc import Iterable
from typing import Any

import orjson
from birdfeed_schemas.safety.untrusted import json_text, visible
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text


class SafeConsole(Console):
    """A console that prints text literally. A newline in a text is shown as ␊, so print line by line."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments to print, with unprintable characters replaced, also inside tables."""
        if isinstance(renderable, str):
            renderable = self.render_str(renderable)
        if isinstance(renderable, Text) and "\n" in renderable.plain:
            renderable = renderable.copy()
            renderable.plain = renderable.plain.replace("\n", visible("\n"))
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(visible, text.split("\n"))), style)


out = SafeConsole()
err = SafeConsole(stderr=True)

#: Styles that are readable on light and dark backgrounds; plain yellow is not readable on white.
NOTE, GOOD_BADGE, WARN_BADGE, BAD_BADGE = "magenta", "black on green", "black on yellow", "bold white on red"

#: Exit codes of every command (docs/reference/outcomes.md).
OK, PARTLY, USAGE, UNREACHABLE = 0, 1, 2, 3


def print_json(value: Any, *, line: bool = False) -> None:
    """One JSON document on standard output; `line`: on one line."""
    document = orjson.dumps(value, option=0 if line else orjson.OPT_INDENT_2).decode()
    sys.stdout.buffer.write(json_text(document).encode() + b"\n")
    sys.stdout.flush()


def print_lines(lines: Iterable[str]) -> None:
    """Print each text on its own line."""
    for line in lines:
        out.print(line, soft_wrap=True)


def warn(message: str) -> None:
    """Print a note on standard error."""
    err.print(message, style=NOTE, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Print an error on standard error; returns the exit code."""
    err.print(f"birdfeed: {message}", style="red", soft_wrap=True)
    return code
