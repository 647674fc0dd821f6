"""Parse ClickHouse's type names: `LowCardinality(Nullable(String))` is a nullable String."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TYPE = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*(?:\((.*)\)\s*)?", re.DOTALL)
_PIECE = re.compile(r"'(?:[^'\\]|\\.)*'|[(),]|[^'(),]+")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type without its wrappers.

    Attributes:
        name: `String`, `UInt64`, `Array`, ...
        arguments: The text in its parentheses, split at the outer commas.
        nullable: Whether it was in Nullable(...).
    """

    name: str
    arguments: tuple[str, ...] = ()
    nullable: bool = False


def parse_type(text: str) -> ColumnType:
    """The type that a text names; raises ValueError if it doesn't have the form of a type."""
    match = _TYPE.fullmatch(text)
    if match is None:
        raise ValueError(f"can't read the type {text!r}")
    name, inner = match[1], match[2]
    arguments = () if inner is None else _arguments(inner)
    if name in ("Nullable", "LowCardinality", "SimpleAggregateFunction") and arguments:
        within = parse_type(arguments[-1])
        return ColumnType(within.name, within.arguments, within.nullable or name == "Nullable")
    return ColumnType(name, arguments)


def _arguments(inner: str) -> tuple[str, ...]:
    arguments = [""]
    depth = 0
    for piece in _PIECE.findall(inner):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += piece
    return tuple(argument.strip() for argument in arguments)
