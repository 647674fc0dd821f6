"""The SCHEMA block: ``name Type `json:$.path` DEFAULT value CODEC(codec)``, one column after another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from birdfeed_sandbox.datafiles.paths import JsonPath, parse_path
from birdfeed_sandbox.errors import DatafileError

_JSON_PATH = re.compile(r"`json:([^`]*)`")
_NAME = re.compile(r"`([^`]+)`|([A-Za-z_][A-Za-z0-9_]*)")
_CODEC = re.compile(r"CODEC\s*\(", re.IGNORECASE)

#: What ClickHouse allows in a column but a datafile doesn't.
_REFUSED = {
    "NULL": "NULL is not supported: use Nullable(...)",
    "NOT": "NOT NULL is not supported: columns are not nullable by default",
    "MATERIALIZED": "MATERIALIZED columns are not supported",
    "ALIAS": "ALIAS columns are not supported",
    "TTL": "a TTL on a column is not supported",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a data source.

    Attributes:
        name: Its name, without backticks.
        type: ClickHouse's type as written, Nullable(...) included.
        path: The path of its value in a row of NDJSON, as written (`$.a.b`); None: never sent, always the default.
        steps: `path`, split into steps.
        default: The expression after DEFAULT, or None.
        codec: `CODEC(...)` as written, or None.
        line: Its line in the file.
    """

    name: str
    type: str
    path: str | None
    steps: JsonPath
    default: str | None
    codec: str | None
    line: int

    @property
    def nullable(self) -> bool:
        """Whether a row may lack a value: Nullable(...), also within LowCardinality(...)."""
        return re.match(r"(LowCardinality\s*\(\s*)?Nullable\s*\(", self.type) is not None


def parse_columns(text: str, *, path: str, first_line: int) -> tuple[Column, ...]:
    """The columns of a SCHEMA block that begins on `first_line` of the file `path`.

    Raises:
        DatafileError: A column can't be read, or is there twice, or there is none.
    """
    columns: dict[str, Column] = {}
    for line, pieces in _items(text, path, first_line):
        column = _column(pieces, path, line)
        if column.name in columns:
            raise DatafileError(path, line, f"column {column.name} is in the schema twice")
        columns[column.name] = column
    if not columns:
        raise DatafileError(path, first_line, "the schema has no columns")
    return tuple(columns.values())


def _items(text: str, path: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Each column as (line, pieces): split at commas, then at spaces, never within quotes or parentheses."""
    pieces: list[str] = []
    piece = ""
    quote = ""
    depth = 0
    line = item_line = first_line
    characters = iter(re.sub(r"^[ \t]*(--|#).*$", "", text, flags=re.MULTILINE) + "\n,")
    for character in characters:
        if quote:
            piece += character
            if character == "\\":
                piece += next(characters, "")
            elif character == quote:
                quote = ""
        elif character in "'\"`":
            quote = character
            piece += character
        elif depth == 0 and (character.isspace() or character == ","):
            if piece:
                item_line = item_line if pieces else line
                pieces.append(piece)
                piece = ""
            if character == "," and pieces:
                yield item_line, pieces
                pieces = []
        else:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
            if depth < 0:
                raise DatafileError(path, line, f"{character} has no opening counterpart")
            piece += character
        line += character == "\n"
    if quote or depth:
        start = item_line if pieces else line
        raise DatafileError(path, start, f"expected closing {quote or 'parenthesis'} in the column that begins here")


def _column(pieces: list[str], path: str, line: int) -> Column:
    name = _NAME.fullmatch(pieces[0])
    if name is None:
        raise DatafileError(path, line, f"column name {pieces[0]} contains invalid characters: use backticks")
    parts: dict[str, list[str]] = {"type": []}
    into = "type"
    json_path: str | None = None
    for piece in pieces[1:]:
        if (found := _JSON_PATH.fullmatch(piece)) is not None:
            json_path, into = found[1], "after"
        elif piece.upper() == "DEFAULT":
            into = "default"
            parts[into] = []
        elif _CODEC.match(piece) is not None:
            parts["codec"], into = [piece], "after"
        elif piece.upper() in _REFUSED and not (into == "default" and piece.upper() == "NULL"):
            raise DatafileError(path, line, f"column {pieces[0]}: {_REFUSED[piece.upper()]}")
        elif into == "after":
            raise DatafileError(path, line, f"column {pieces[0]}: unexpected {piece}")
        else:
            parts[into].append(piece)
    return _checked(name[1] or name[2], parts, json_path, path, line)


def _checked(name: str, parts: dict[str, list[str]], json_path: str | None, path: str, line: int) -> Column:
    if not parts["type"]:
        raise DatafileError(path, line, f"column {name} has no type")
    if parts.get("default") == []:
        raise DatafileError(path, line, f"column {name}: DEFAULT has no value")
    try:
        steps = parse_path(json_path) if json_path is not None else ()
    except ValueError as error:
        raise DatafileError(path, line, f"column {name}: {error}") from error
    default = " ".join(parts["default"]) if "default" in parts else None
    type_ = " ".join(parts["type"])
    if default is not None and default.upper() == "NULL":
        default = None  # the same as what a Nullable column does without a DEFAULT
    return Column(
        name=name,
        type=type_,
        path=json_path,
        steps=steps,
        default=default,
        codec=parts["codec"][0] if "codec" in parts else None,
        line=line,
    )
