"""`.datasource` files: what Tinybird Forward writes, without connectors."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from birdfeed_sandbox.datafiles.columns import Column, parse_columns
from birdfeed_sandbox.datafiles.lines import Command, read_commands
from birdfeed_sandbox.errors import DatafileError

#: For each engine: the ENGINE_* settings that are its arguments, in ClickHouse's order.
ENGINES: dict[str, tuple[str, ...]] = {
    "MergeTree": (),
    "ReplacingMergeTree": ("VER", "IS_DELETED"),
    "SummingMergeTree": ("COLUMNS",),
    "AggregatingMergeTree": (),
    "CollapsingMergeTree": ("SIGN",),
    "VersionedCollapsingMergeTree": ("SIGN", "VERSION"),
}
_CLAUSES = ("PARTITION_KEY", "SORTING_KEY", "PRIMARY_KEY", "SAMPLING_KEY", "TTL", "SETTINGS")
_ENGINE_OPTIONS = {*_CLAUSES, *(argument for arguments in ENGINES.values() for argument in arguments)}
#: Commands that are read and ignored: they concern a live workspace, not the table's schema.
_IGNORED = {"TAGS", "SHARED_WITH", "BACKFILL", "VERSION"}
_KNOWN = {
    "DESCRIPTION", "TOKEN", "SCHEMA", "INDEXES", "ENGINE", "FORWARD_QUERY",
    *(f"ENGINE_{option}" for option in _ENGINE_OPTIONS), *_IGNORED,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """`TOKEN "name" APPEND`: a token to which the workspace gives this right on this data source or pipe."""

    name: str
    permission: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasource:
    """One data source.

    Attributes:
        name, path: The file's name without its ending, and the file, for error messages.
        indexes: Lines of INDEXES, without the word INDEX.
        options: ENGINE_* settings by their name without `ENGINE_`: PARTITION_KEY, SORTING_KEY, TTL, VER, ...
    """

    name: str
    path: str
    columns: tuple[Column, ...]
    tokens: tuple[Token, ...] = ()
    indexes: tuple[str, ...] = ()
    engine: str = "MergeTree"
    options: dict[str, str] = field(default_factory=dict)


def load_datasource(path: Path) -> Datasource:
    """The data source in a file, named as the file is."""
    return parse_datasource(path.read_text(encoding="utf-8"), name=path.stem, path=str(path))


def parse_datasource(text: str, *, name: str, path: str = "") -> Datasource:
    """The data source that a datafile's text describes; raises DatafileError, with file (`path`) and line."""
    path = path or f"{name}.datasource"
    found: dict[str, Command] = {}
    tokens: list[Token] = []
    for command in read_commands(text, path=path, kind="datasource", known=_KNOWN):
        if command.name == "TOKEN":
            tokens.append(parse_token(command, path))
        elif command.name in found:
            line = found[command.name].line
            raise DatafileError(path, command.line, f"{command.name} is there twice, first on line {line}")
        else:
            found[command.name] = command
    if "SCHEMA" not in found:
        raise DatafileError(path, 1, "there is no SCHEMA")
    schema = found["SCHEMA"]
    engine, options = _engine(found, path)
    return Datasource(
        name=name,
        path=path,
        columns=parse_columns(schema.value, path=path, first_line=schema.value_line),
        tokens=tuple(tokens),
        indexes=_indexes(found["INDEXES"], path) if "INDEXES" in found else (),
        engine=engine,
        options=options,
    )


def parse_token(command: Command, path: str) -> Token:
    """A TOKEN line; raises DatafileError if it isn't `TOKEN "name" READ` or `TOKEN "name" APPEND`."""
    words = shlex.split(command.value)
    if len(words) != 2 or words[1].upper() not in ("READ", "APPEND"):
        raise DatafileError(path, command.line, 'TOKEN takes a name and READ or APPEND: TOKEN "name" APPEND')
    return Token(name=words[0], permission=words[1].upper())


def _indexes(command: Command, path: str) -> tuple[str, ...]:
    indexes = []
    for offset, line in enumerate(command.value.splitlines()):
        index = line.strip().rstrip(",").removeprefix("INDEX ").strip()
        if not index:
            continue
        if " TYPE " not in index:
            usage = "an index is written: INDEX name expression TYPE type GRANULARITY number"
            raise DatafileError(path, command.value_line + offset, usage)
        indexes.append(index)
    return tuple(indexes)


def _engine(found: dict[str, Command], path: str) -> tuple[str, dict[str, str]]:
    engine = (found["ENGINE"].value.strip() if "ENGINE" in found else "") or "MergeTree"
    if engine not in ENGINES:
        line = found["ENGINE"].line
        raise DatafileError(path, line, f"ENGINE {engine} is not one the sandbox knows: {', '.join(ENGINES)}")
    options: dict[str, str] = {}
    for name, command in found.items():
        option = name.removeprefix("ENGINE_")
        if option == name or not command.value.strip():
            continue
        if option not in _CLAUSES and option not in ENGINES[engine]:
            raise DatafileError(path, command.line, f"{name} doesn't go with ENGINE {engine}")
        options[option] = command.value.strip()
    return engine, options
