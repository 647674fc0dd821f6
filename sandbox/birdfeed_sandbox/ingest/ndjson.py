"""Parse NDJSON: fast for ordinary lines, exactly for the others."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from birdfeed_sandbox.errors import BodyError

Row = dict[str, Any]


def split_lines(body: bytes) -> list[bytes]:
    """The non-empty lines of a body; raises BodyError if there are none."""
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    if not lines:
        raise BodyError("the body is empty")
    return lines


def parse(lines: list[bytes]) -> tuple[list[Row], list[int]]:
    """The rows, and the numbers of those that orjson couldn't read: they may hold lone surrogates."""
    try:
        rows = [orjson.loads(line) for line in lines]
        suspects: list[int] = []
    except orjson.JSONDecodeError:
        rows, suspects = [], []
        for index, line in enumerate(lines):
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                rows.append(parse_exactly(line, index + 1))
                suspects.append(index)
    for index, row in enumerate(rows):
        if type(row) is not dict:
            raise BodyError(f"line {index + 1} is not a JSON object")
    return rows, suspects


def parse_exactly(line: bytes, number: int) -> Row:
    """Parse a line with Python's own parser, which reads lone surrogates and integers of any size."""
    try:
        row: Row = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BodyError(f"line {number} is not valid JSON: {error}") from error
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
