"""The workspace: data sources as real tables, pipes as real queries. Synchronous; for one thread at a time.

Only `extract` may run in another thread at the same time: it doesn't use the engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson

from birdfeed_sandbox.datafiles.datasource import Datasource, parse_datasource
from birdfeed_sandbox.datafiles.pipe import Pipe
from birdfeed_sandbox.datafiles.project import Project
from birdfeed_sandbox.errors import EngineError, QueryError, SandboxError
from birdfeed_sandbox.ingest.extract import Batch, Extractor, Quarantined, QuarantineRule
from birdfeed_sandbox.ingest.values import received_text
from birdfeed_sandbox.settings import MANIFEST
from birdfeed_sandbox.store.chdb_engine import Engine
from birdfeed_sandbox.store.ddl import DATABASE, create_quarantine, create_table, quarantine_of, quoted
from birdfeed_sandbox.store.sql_guard import FORMATS, check_select, check_text, with_ctes
from birdfeed_sandbox.store.sql_tree import check_read, check_statement
from birdfeed_sandbox.store.templates import SqlTemplate

#: For rows that are copied: they are written unchanged, whatever their partitions.
_AS_THEY_ARE = "SETTINGS max_partitions_per_insert_block = 0, optimize_on_insert = 0"


@dataclass(frozen=True, slots=True)
class Written:
    """The result of writing a batch."""

    successful_rows: int
    quarantined_rows: int


@dataclass(frozen=True, slots=True)
class Result:
    """A query's answer, in the format that it requested."""

    body: bytes
    content_type: str


class Workspace:
    """A project of datafiles, with its tables in one data directory."""

    def __init__(self, project: Project, folder: Path) -> None:
        """Open the directory and create its tables.

        Raises:
            DatafileError: A pipe's template is wrong.
            SandboxError: The directory holds tables from other datafiles, or a table can't be created.
        """
        self._project = project
        self._templates = {
            (pipe.name, node.name): SqlTemplate(node.sql, path=pipe.path, line=node.line)
            for pipe in project.pipes.values()
            for node in pipe.nodes
            if node.template
        }
        self.pipes = project.pipes
        #: Name → data source, as they are now.
        self.datasources: dict[str, Datasource] = {}
        self._extractors: dict[str, Extractor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._manifest_path = folder / MANIFEST
        self._manifest: dict[str, str] = (
            json.loads(self._manifest_path.read_text()) if self._manifest_path.exists() else {}
        )
        self._engine = Engine(folder / "chdb")
        try:
            for datasource in project.datasources.values():
                self._open(datasource)
        except SandboxError:
            self._engine.close()
            raise

    @property
    def tables(self) -> tuple[str, ...]:
        """Each data source and its quarantine."""
        return tuple(table for name in self.datasources for table in (name, quarantine_of(name)))

    def extract(self, name: str, body: bytes, rule: QuarantineRule | None = None) -> Batch:
        """The rows of a body, ready for the data source's table; nothing is written.

        Raises:
            BodyError: The body isn't NDJSON.
        """
        return self._extractors[name].extract(body, rule=rule)

    def write(self, name: str, batch: Batch) -> Written:
        """Write a batch: its rows to the table, the quarantined ones to the quarantine table.

        Raises:
            EngineError: The engine refused the rows as a whole; nothing was written.
        """
        rows = list(batch.rows)
        aside = list(batch.quarantined)
        while rows:
            try:
                self._engine.insert(quoted(name), orjson.dumps(rows))
                break
            except EngineError as error:
                if error.row is None or not 0 < error.row <= len(rows):
                    raise
                aside.append(_set_aside(rows.pop(error.row - 1), error))
        if aside:
            self._engine.insert(quoted(quarantine_of(name)), orjson.dumps(_quarantine_rows(aside)))
        return Written(len(rows), len(aside))

    def query(self, sql: str) -> Result:
        """Run one SELECT; pipes can be used in it like tables.

        Raises:
            QueryError: It isn't a SELECT that stays within the workspace.
            TemplateError: It names a pipe that needs a parameter.
            EngineError: The engine refused it.
        """
        select = check_select(sql)
        named = [pipe for name, pipe in self.pipes.items() if name in select.names]
        inlined = with_ctes(select.sql, [(pipe.name, self._rendered(pipe, {})) for pipe in named])
        return self._select(inlined, select.output or "JSON")

    def endpoint(self, name: str, parameters: Mapping[str, str], output: str) -> Result:
        """Run a pipe of the project with parameters as text; `output` is a ClickHouse format.

        Raises:
            TemplateError: A parameter is missing or wrong.
            QueryError: Its SQL isn't a SELECT that stays within the workspace.
            EngineError: The engine refused its SQL.
        """
        return self._select(self._rendered(self.pipes[name], parameters), output)

    def admin_query(self, sql: str) -> bytes:
        """Run a statement on the engine's tables; the answer to a SELECT is in the format JSON.

        Raises:
            QueryError: It accesses something else: files, hosts, programs, or the engine itself.
            EngineError: The engine refused it.
        """
        return self._engine.execute(self._checked(sql))

    def delete(self, table: str, condition: str, *, dry_run: bool = False) -> int:
        """Delete the rows of a table that match a condition, or only count them; returns how many.

        Raises:
            QueryError: The condition is not just a condition on this workspace's tables.
            EngineError: The engine refused it.
        """
        source = f"{DATABASE}.{quoted(table)}"
        counted = self._select(f"SELECT count() AS n FROM {source} WHERE ({condition})", "TSV").body
        if not counted.strip().isdigit():
            raise QueryError("the delete_condition is more than a condition")
        rows = int(counted)
        if not dry_run:
            # Not ALTER TABLE ... DELETE, which runs in the engine's background threads at an unknown time.
            rest = check_select(f"SELECT * FROM {source} WHERE NOT ifNull(({condition}), 0)")
            check_read(self._engine.tree(rest.sql), rest.settings)
            kept = f"{DATABASE}.{quoted(f'{table}__kept')}"
            self._engine.execute(f"DROP TABLE IF EXISTS {kept} SYNC")
            self._engine.execute(f"CREATE TABLE {kept} AS {source}")
            try:
                self._engine.execute(f"INSERT INTO {kept} {rest.sql} {_AS_THEY_ARE}")
                self._engine.execute(f"EXCHANGE TABLES {source} AND {kept}")
            finally:
                self._engine.execute(f"DROP TABLE {kept} SYNC")
        return rows

    def row_counts(self) -> dict[str, int]:
        """Rows by table, quarantines included."""
        return {
            table: int(self._engine.execute(f"SELECT count() FROM {DATABASE}.{quoted(table)}", "TSV"))
            for table in self.tables
        }

    def reset(self) -> None:
        """Empty every table, and recreate replaced ones from the project's datafiles."""
        for name, datasource in self._project.datasources.items():
            if self.datasources[name] is not datasource:
                self._remake(datasource)
                continue
            for table in (name, quarantine_of(name)):
                self._engine.execute(f"TRUNCATE TABLE {DATABASE}.{quoted(table)}")

    def replace(self, name: str, text: str) -> Datasource:
        """Replace a data source by an empty one, made from another datafile's text.

        Raises:
            DatafileError: The text isn't a data source; the table stays as it was.
            EngineError: The engine refused the new table; the old one stays.
        """
        datasource = parse_datasource(text, name=name)
        Extractor(datasource)  # raises before a table is dropped
        before = self.datasources[name]
        try:
            self._remake(datasource)
        except EngineError:
            self._remake(before)
            raise
        return datasource

    def close(self) -> None:
        """Release the data directory."""
        self._engine.close()

    def _select(self, sql: str, output: str) -> Result:
        select = check_select(sql)
        check_read(self._engine.tree(select.sql), select.settings)
        return Result(self._engine.select(select.sql, output), FORMATS[output])

    def _checked(self, sql: str) -> str:
        statement, settings = check_text(sql)
        check_statement(self._engine.tree(statement), settings)
        return statement

    def _open(self, datasource: Datasource) -> None:
        made_from = self._manifest.get(datasource.name)
        if made_from is None:
            self._remake(datasource)
        elif made_from != create_table(datasource):
            raise SandboxError(
                f"the table {datasource.name} in {self._manifest_path.parent} was made from another datafile than"
                f" {datasource.path}: use another data directory, or delete this one"
            )
        else:
            self._register(datasource)

    def _remake(self, datasource: Datasource) -> None:
        name = datasource.name
        for table in (name, quarantine_of(name)):
            self._engine.execute(f"DROP TABLE IF EXISTS {DATABASE}.{quoted(table)} SYNC")
        try:
            self._engine.execute(self._checked(create_table(datasource)))
        except EngineError as error:
            raise EngineError(error.code, f"{datasource.path}: {error.message}") from error
        except QueryError as error:
            raise EngineError(0, f"{datasource.path}: {error.message}") from error
        self._engine.execute(create_quarantine(datasource))
        self._manifest[name] = create_table(datasource)
        self._manifest_path.write_text(json.dumps(self._manifest, indent=1))
        self._register(datasource)

    def _register(self, datasource: Datasource) -> None:
        self.datasources[datasource.name] = datasource
        self._extractors[datasource.name] = Extractor(datasource)

    def _rendered(self, pipe: Pipe, parameters: Mapping[str, str]) -> str:
        """The endpoint's SQL, with the nodes that it uses in front of it."""
        wanted = {pipe.endpoint.name}
        queries: dict[str, str] = {}
        for node in reversed(pipe.nodes):
            if node.name not in wanted:
                continue
            template = self._templates.get((pipe.name, node.name))
            sql = template.render(parameters) if template is not None else node.sql
            select = check_select(sql)
            queries[node.name] = select.sql
            wanted |= select.names
        final = queries.pop(pipe.endpoint.name)
        return with_ctes(final, reversed(queries.items()))


def _set_aside(row: dict[str, object], error: EngineError) -> Quarantined:
    received = {name: received_text(value) for name, value in row.items()}
    key = error.message.partition("while reading the value of key ")[2].partition(")")[0]
    return Quarantined(received, [key], [error.message.splitlines()[0]])


def _quarantine_rows(aside: list[Quarantined]) -> list[dict[str, object]]:
    import_id = str(uuid4())
    return [
        {**row.values, "c__error_column": row.columns, "c__error": row.errors, "c__import_id": import_id}
        for row in aside
    ]
