"""Turn NDJSON into rows for a table, column by column, so that a row with thirty columns takes microseconds.

Pure: no engine. Rows with a value that a column doesn't accept are quarantined, with the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from birdfeed_sandbox.datafiles.columns import Column
from birdfeed_sandbox.datafiles.datasource import Datasource
from birdfeed_sandbox.datafiles.paths import EACH, JsonPath, parse_path
from birdfeed_sandbox.errors import DatafileError
from birdfeed_sandbox.ingest.column_types import parse_type
from birdfeed_sandbox.ingest.ndjson import Row, parse, parse_exactly, split_lines
from birdfeed_sandbox.ingest.type_checks import Check, check_for
from birdfeed_sandbox.ingest.values import Reject, received_text


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that the table doesn't accept: its values as received, and what is wrong with which column."""

    values: dict[str, str | None]
    columns: list[str]
    errors: list[str]


@dataclass(frozen=True, slots=True)
class Batch:
    """A body, ready for the table: its rows by column name, in the body's order, and the quarantined ones."""

    rows: list[Row]
    quarantined: list[Quarantined] = field(default_factory=list)

    def first(self, count: int) -> Batch:
        """The same with no more than `count` rows; quarantined ones stay."""
        return replace(self, rows=self.rows[:count])


def _readable(path: str) -> str:
    parse_path(path)
    return path


class QuarantineRule(BaseModel, frozen=True):
    """Quarantines a row if the value at `path` equals `equals`, even if its types are right."""

    path: Annotated[str, AfterValidator(_readable)]
    equals: Any

    def hits(self, row: Row) -> bool:
        """Whether it quarantines this row."""
        return bool(dig(row, parse_path(self.path)) == self.equals)


class Extractor:
    """Extracts the values of one data source's columns from rows."""

    def __init__(self, datasource: Datasource) -> None:
        self._columns = [column for column in datasource.columns if column.path is not None]
        self._checks: dict[str, Check] = {}
        for column in self._columns:
            try:
                self._checks[column.name] = check_for(parse_type(column.type))
            except (ValueError, IndexError) as error:
                message = f"column {column.name}: the type {column.type} can't be read"
                raise DatafileError(datasource.path, column.line, message) from error
        self._integers = {column.name for column in self._columns if self._checks[column.name].plain == {int}}
        # A Nullable column stores null if null is written, so for its DEFAULT the key must be left out.
        self._left_out = {column.name for column in self._columns if column.nullable and column.default is not None}

    def extract(self, body: bytes, *, rule: QuarantineRule | None = None) -> Batch:
        """The rows of a decoded body, checked and mapped to columns; `rule` quarantines further rows.

        Raises:
            BodyError: A line isn't a JSON object, or there is none.
        """
        lines = split_lines(body)
        rows, suspects = parse(lines)
        values = self._values(rows)
        widened = self._widen(rows, lines, values)
        if widened:
            suspects = sorted({*suspects, *widened})
            values = self._values(rows)
        problems: dict[int, list[tuple[str, str]]] = {}
        if rule is not None:
            for index, row in enumerate(rows):
                if rule.hits(row):
                    problems.setdefault(index, []).append((rule.path, "quarantined by a fault of the sandbox"))
        checked = {
            column.name: written
            for column, taken in zip(self._columns, values, strict=True)
            if (written := self._check(column, taken, suspects, problems)) is not None
        }
        return self._assemble(len(rows), checked, values, problems)

    def _values(self, rows: list[Row]) -> list[list[Any]]:
        """Each column's values. The values in one object are read together, so that it is looked up once."""
        within: dict[JsonPath, list[Any]] = {(): rows}

        def values(steps: JsonPath) -> list[Any]:
            if steps not in within:
                if EACH in steps[-1:]:
                    within[steps] = values(steps[:-1])  # the array itself
                elif EACH in steps:
                    within[steps] = [dig(row, steps) for row in rows]
                else:
                    key = steps[-1]
                    within[steps] = [value.get(key) if type(value) is dict else None for value in values(steps[:-1])]
            return within[steps]

        return [values(column.steps) for column in self._columns]

    def _widen(self, rows: list[Row], lines: list[bytes], values: list[list[Any]]) -> set[int]:
        """Parse rows with integers beyond 64 bits again, exactly, because orjson made them floats."""
        widened: set[int] = set()
        for column, taken in zip(self._columns, values, strict=True):
            if column.name in self._integers and float in set(map(type, taken)):
                widened.update(i for i, value in enumerate(taken) if type(value) is float and abs(value) >= 2**63)
        for index in widened:
            rows[index] = parse_exactly(lines[index], index + 1)
        return widened

    def _check(
        self,
        column: Column,
        taken: list[Any],
        suspects: Sequence[int],
        problems: dict[int, list[tuple[str, str]]],
    ) -> list[Any] | None:
        """One column's values as they are to be written; None if no row has one. Problems are added by row."""
        check = self._checks[column.name]
        present = taken
        if None in taken:
            if not column.nullable and column.default is None:
                for index, value in enumerate(taken):
                    if value is None:
                        problems.setdefault(index, []).append((column.name, _missing(column)))
            present = [value for value in taken if value is not None]
            if not present:
                return None
        candidates = suspects if check.passes(present) else range(len(taken))
        written = list(taken) if candidates else taken
        for index in candidates:
            if taken[index] is None:
                continue
            try:
                written[index] = check.convert(taken[index])
            except Reject as reject:
                reason = f"{reject}. While accessing jsonpath '{column.path}'"
                problems.setdefault(index, []).append((column.name, reason))
        return written

    def _assemble(
        self,
        count: int,
        checked: dict[str, list[Any]],
        values: list[list[Any]],
        problems: dict[int, list[tuple[str, str]]],
    ) -> Batch:
        names = tuple(checked)
        out = self._left_out.intersection(names)
        rows: list[Row] = []
        for index, row in enumerate(zip(*checked.values(), strict=True) if checked else [()] * count):
            if index in problems:
                continue
            mapped = dict(zip(names, row, strict=True))
            if out and None in row:
                mapped = {name: value for name, value in mapped.items() if value is not None or name not in out}
            rows.append(mapped)
        quarantined = []
        for index, found in sorted(problems.items()):
            received = {
                column.name: received_text(taken[index]) for column, taken in zip(self._columns, values, strict=True)
            }
            quarantined.append(Quarantined(received, [name for name, _ in found], [reason for _, reason in found]))
        return Batch(rows, quarantined)


def dig(value: Any, steps: JsonPath) -> Any:
    """The value at a path; None if there is none, it is null, or a value on the path is of another kind."""
    for position, step in enumerate(steps):
        if step == EACH:
            rest = steps[position + 1 :]
            # Not a list: return it unchanged, so that the column's check rejects its type.
            return [dig(item, rest) for item in value] if isinstance(value, list) else value
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _missing(column: Column) -> str:
    leaf = [step for step in column.steps if step != EACH][-1:] or ["$"]
    return (
        f"Strict type checking failed. Object does not have column '{leaf[0]}', you should send a value or recreate"
        f" the table with a Nullable column type. While accessing jsonpath '{column.path}'"
    )
