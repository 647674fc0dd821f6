"""chDB, the ClickHouse engine in this process. Only this file imports it.

It is not thread-safe: its owner must call it from one thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chdb import ChdbError
from chdb.session import Session

from birdfeed_sandbox.errors import EngineError, SandboxError
from birdfeed_sandbox.store.ddl import DATABASE

#: chDB declares itself typed, but this class has no types.
_open: Callable[[str], Any] = Session

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_ROW = re.compile(r"\(at row (\d+)\)")

#: Settings as Tinybird's for inserts: times in ISO 8601, at most 12 partitions. Parsed by one thread, a body of up to a
#: million rows is one block, so that all of it or nothing is written, and the engine can name the row at fault.
_WRITE_SETTINGS = (
    "date_time_input_format = 'best_effort', input_format_parallel_parsing = 0, max_partitions_per_insert_block = 12"
)
#: Reads can't write, but may choose their own settings. max_query_size is above Tinybird's, because pipes and an
#: EXPLAIN are put in front of queries.
_READ_SETTINGS = "max_query_size = 4194304, readonly = 2"


class Engine:
    """One data directory, opened once for writing and once for reading."""

    def __init__(self, folder: Path) -> None:
        """Open the directory.

        Raises:
            SandboxError: It can't be opened, in most cases because another process has it open.
        """
        if "?" in str(folder):
            raise SandboxError(f"the data directory {folder} can't have a question mark in its name")
        try:
            self._writer = _open(str(folder))
        except RuntimeError as error:
            raise SandboxError(f"the data directory {folder} can't be opened: {error}") from error
        self.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
        self.execute(f"USE {DATABASE}")
        self.execute(f"SET {_WRITE_SETTINGS}")
        self._reader = _open(str(folder))
        _run(self._reader, f"USE {DATABASE}", "CSV")
        _run(self._reader, f"SET {_READ_SETTINGS}", "CSV")

    def execute(self, sql: str, output: str = "JSON") -> bytes:
        """Run a statement that may write; its result in a ClickHouse format.

        Raises:
            EngineError: The engine refused it.
        """
        return _run(self._writer, sql, output)

    def insert(self, table: str, rows: bytes) -> None:
        """Write rows, all or none: a JSON array of objects by column name, to a table (a quoted identifier).

        Raises:
            EngineError: The engine refused them; `row` is the row at fault, if it is one row.
        """
        # Not Session.send_insert, which reports success even if an insert fails while its parts are written.
        self.execute(f"INSERT INTO {DATABASE}.{table} FORMAT JSONEachRow {rows.decode()}")

    def select(self, sql: str, output: str) -> bytes:
        """Run a query that can't write; its result in a ClickHouse format, or the one the query names.

        Raises:
            EngineError: The engine refused it.
        """
        return _run(self._reader, sql, output)

    def tree(self, sql: str) -> str:
        """The syntax tree of a statement, as `EXPLAIN AST` prints it; the statement isn't run.

        Raises:
            EngineError: The statement can't be parsed.
        """
        return _run(self._reader, f"EXPLAIN AST {sql}", "TSVRaw").decode(errors="replace")

    def close(self) -> None:
        """Release the data directory."""
        self._reader.close()
        self._writer.close()


def _run(session: Any, sql: str, output: str) -> bytes:
    try:
        return bytes(session.query(sql, output).bytes())
    except ChdbError as error:
        raise _engine_error(str(error)) from error


def _engine_error(text: str) -> EngineError:
    code = _CODE.search(text)
    row = _ROW.search(text)
    message = text[code.end() :] if code is not None else text
    return EngineError(int(code[1]) if code is not None else 0, message, int(row[1]) if row is not None else None)
