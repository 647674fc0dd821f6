"""chDB, the ClickHouse engine in this process: the only file that imports it.

Not for several threads: its owner calls it from one.
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

#: chDB marks itself as typed, and leaves this class without types.
_open: Callable[[str], Any] = Session

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_ROW = re.compile(r"\(at row (\d+)\)")

#: As Tinybird inserts: times as ISO-8601 writes them, at most 12 partitions touched. Read by one thread, a body up to
#: a million rows is one block, so all of it is written or nothing; and the engine can tell which row is at fault.
_WRITE_SETTINGS = (
    "date_time_input_format = 'best_effort', input_format_parallel_parsing = 0, max_partitions_per_insert_block = 12"
)
#: Reads can't write, whatever they say; the settings of one query stay theirs to choose.
#: A query as long as Tinybird takes grows here, by the pipes and the EXPLAIN put in front of it.
_READ_SETTINGS = "max_query_size = 4194304, readonly = 2"


class Engine:
    """One data directory, opened for writing and, apart, for reading."""

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            SandboxError: It can't be opened; most often, another process has.
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
        """Write rows, all or none.

        Args:
            table: An identifier, quoted already.
            rows: A JSON array of objects by column name.

        Raises:
            EngineError: The engine refused them; `row` tells which, where it is one row's fault.
        """
        # Not Session.send_insert: it reports success for an insert refused while its parts are written.
        self.execute(f"INSERT INTO {DATABASE}.{table} FORMAT JSONEachRow {rows.decode()}")

    def select(self, sql: str, output: str) -> bytes:
        """Run a query that can't write; its result in a ClickHouse format, or the one the query names.

        Raises:
            EngineError: The engine refused it.
        """
        return _run(self._reader, sql, output)

    def tree(self, sql: str) -> str:
        """The syntax tree of a statement, as `EXPLAIN AST` writes it; nothing runs.

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
