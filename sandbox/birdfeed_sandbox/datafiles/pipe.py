"""`.pipe` files: nodes of SQL, the last of them an endpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from birdfeed_sandbox.datafiles.datasource import Token, parse_token
from birdfeed_sandbox.datafiles.lines import Command, read_commands
from birdfeed_sandbox.errors import DatafileError

_KNOWN = {"DESCRIPTION", "TOKEN", "NODE", "SQL", "TYPE", "TAGS", "VERSION"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step of a pipe. `sql`, without the `%` that marks a template, begins on this line of the file."""

    name: str
    sql: str = ""
    template: bool = False
    endpoint: bool = False
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """One pipe. `nodes` are in the file's order; exactly one of them is the endpoint."""

    name: str
    path: str
    nodes: tuple[Node, ...]
    tokens: tuple[Token, ...] = ()

    @property
    def endpoint(self) -> Node:
        """The node whose rows the pipe returns."""
        return next(node for node in self.nodes if node.endpoint)


def load_pipe(path: Path) -> Pipe:
    """The pipe in a file, named as the file is."""
    return parse_pipe(path.read_text(encoding="utf-8"), name=path.stem, path=str(path))


def parse_pipe(text: str, *, name: str, path: str = "") -> Pipe:
    """The pipe that a datafile's text describes; raises DatafileError, with file (`path`) and line."""
    path = path or f"{name}.pipe"
    tokens: list[Token] = []
    nodes: list[Node] = []
    for command in read_commands(text, path=path, kind="pipe", known=_KNOWN):
        if command.name == "TOKEN":
            tokens.append(parse_token(command, path))
        elif command.name == "NODE":
            nodes.append(_new_node(command, nodes, path))
        elif not nodes and command.name != "DESCRIPTION":
            raise DatafileError(path, command.line, f"{command.name} must come after a NODE")
        elif nodes:
            nodes[-1] = _with(nodes[-1], command, path)
    _check(nodes, path)
    return Pipe(name=name, path=path, nodes=tuple(nodes), tokens=tuple(tokens))


def _new_node(command: Command, nodes: list[Node], path: str) -> Node:
    if not command.value.isidentifier():
        raise DatafileError(path, command.line, f"NODE needs a name of letters, digits and _, not {command.value!r}")
    if any(node.name == command.value for node in nodes):
        raise DatafileError(path, command.line, f"node {command.value} is there twice")
    return Node(name=command.value, line=command.line)


def _with(node: Node, command: Command, path: str) -> Node:
    match command.name:
        case "SQL":
            if node.sql:
                raise DatafileError(path, command.line, f"node {node.name} has a second SQL")
            return _with_sql(node, command)
        case "TYPE":
            if command.value.lower() != "endpoint":
                message = f"TYPE {command.value} is not supported by the sandbox, only endpoint"
                raise DatafileError(path, command.line, message)
            return replace(node, endpoint=True)
        case _:
            return node


def _with_sql(node: Node, command: Command) -> Node:
    before, sign, after = command.value.partition("%")
    template = bool(sign) and not before.strip()
    line = command.value_line + (before.count("\n") if template else 0)
    return replace(node, sql=(after if template else command.value).rstrip(), template=template, line=line)


def _check(nodes: list[Node], path: str) -> None:
    if not nodes:
        raise DatafileError(path, 1, "there is no NODE")
    for node in nodes:
        if not node.sql.strip():
            raise DatafileError(path, node.line, f"node {node.name} has no SQL")
    endpoints = [node.name for node in nodes if node.endpoint]
    if len(endpoints) != 1:
        found = f"it has {len(endpoints)}" if endpoints else "it has none"
        raise DatafileError(path, nodes[-1].line, f"a pipe needs exactly one node with TYPE endpoint, {found}")
