"""Find the line of a key in a TOML text, which the standard library's parser doesn't tell."""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[\s,]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*""")
_TEXT: Final = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_BARE: Final = re.compile(r"[^,\]}\n#]*")


def key_lines(text: str) -> Mapping[Path, int]:
    """Map each key and table of a TOML text to its line, counted from 1.

    A path holds keys, and positions (from 0) in arrays: ("model", 3, "price", 0, "prompt_text").

    Args:
        text: TOML that has already been parsed; for anything else the result is unspecified.
    """
    return _Scanner(text).scan()


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of `path`, or of its nearest ancestor that is in the text; 1 if there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # array of tables → position of its last table

    def scan(self) -> Mapping[Path, int]:
        table: Path = ()
        while self._skip_blank():
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _skip_blank(self) -> bool:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at < len(self._text)

    def _note(self, path: Path) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, self._at) + 1)

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_array else 1
        path: Path = ()
        keys = self._dotted()
        for position, key in enumerate(keys):
            path += (key,)
            if is_array and position == len(keys) - 1:
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path += (self._tables[path],)
        self._at, end = start, self._text.find("]", self._at) + (2 if is_array else 1)
        self._note(path)
        self._at = end
        return path

    def _dotted(self) -> list[str]:
        keys: list[str] = []
        while match := _KEY.match(self._text, self._at):
            keys.append(next(part for part in match.groups() if part is not None))
            self._at = match.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _pair(self, table: Path) -> None:
        self._skip_blank()
        start = self._at
        path = (*table, *self._dotted())
        end, self._at = self._at, start
        self._note(path)
        equals = self._text.find("=", end)
        self._at = len(self._text) if equals < 0 else equals + 1
        self._value(path)

    def _value(self, path: Path) -> None:
        if not self._skip_blank():
            return
        first = self._text[self._at]
        if first == "[":
            self._at += 1
            position = 0
            while self._skip_blank() and self._text[self._at] != "]":
                self._note((*path, position))
                self._value((*path, position))
                position += 1
            self._at += 1
        elif first == "{":
            self._at += 1
            while self._skip_blank() and self._text[self._at] != "}":
                self._pair(path)
            self._at += 1
        else:
            match = _TEXT.match(self._text, self._at) if first in "\"'" else _BARE.match(self._text, self._at)
            self._at = max(match.end() if match else 0, self._at + 1)
