"""A datafile's lines, as commands: `NAME value` on one line, or `NAME >` with a block beneath it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from birdfeed_sandbox.errors import DatafileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a datafile.

    Attributes:
        name: In capitals: SCHEMA, ENGINE_TTL, NODE, ...
        value: What follows on its line, quotes and comment removed; or the block's text as written.
        line: The line the command stands on.
        value_line: The line on which `value` begins: the next one for a block.
    """

    name: str
    value: str
    line: int
    value_line: int


def read_commands(text: str, *, path: str, kind: str, known: Collection[str]) -> list[Command]:
    """The commands of a datafile, in its order.

    A block ends, as in Tinybird, at the first line that isn't indented and begins with a known command.

    Args:
        text: The file's content.
        path, kind: Its name, and "datasource" or "pipe", for error messages.
        known: The commands that this kind of file may hold, in capitals.

    Raises:
        DatafileError: A line outside a block begins with a command that isn't known.
    """
    commands: list[Command] = []
    block: list[str] | None = None
    opened = 0  # the line of the command that opened the block
    name = ""

    def close() -> None:
        if block is not None:
            commands.append(Command(name=name, value="\n".join(block), line=opened, value_line=opened + 1))

    for number, line in enumerate(text.splitlines(), start=1):
        word = line.split(maxsplit=1)[0].upper() if line.strip() else ""
        if block is not None:
            if word not in known or line[0].isspace():
                block.append(line)
                continue
            close()
            block = None
        if not word or word.startswith("#"):
            continue
        if word not in known:
            raise DatafileError(path, number, f"{word} is not a valid option in {kind} files")
        name, value = word, without_comment(line.strip()[len(word) :]).strip()
        if value == ">":
            block, opened = [], number
        else:
            commands.append(Command(name=name, value=unquoted(value), line=number, value_line=number))
    close()
    return commands


def without_comment(text: str) -> str:
    """The text up to the first `#` outside quotes."""
    quote = ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#":
            return text[:position]
    return text


def unquoted(text: str) -> str:
    """The text without the pair of quotes around it, if there is one."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text
