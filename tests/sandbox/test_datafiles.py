"""The parser of .datasource and .pipe files."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from birdfeed_sandbox.datafiles.columns import Column
from birdfeed_sandbox.datafiles.datasource import Datasource, parse_datasource
from birdfeed_sandbox.datafiles.paths import EACH, parse_path
from birdfeed_sandbox.datafiles.pipe import Pipe, parse_pipe
from birdfeed_sandbox.datafiles.project import load_project, packaged_project
from birdfeed_sandbox.errors import DatafileError, SandboxError
from birdfeed_sandbox.store.ddl import create_quarantine, create_table


def schema(text: str) -> tuple[Column, ...]:
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    return parse_datasource(f"SCHEMA >\n{indented}\n", name="ds").columns


def column(text: str) -> Column:
    [only] = schema(text)
    return only


def test_the_test_project_is_read_completely(project: Path) -> None:
    """Two data sources and two pipes, by name."""
    loaded = load_project(project)

    assert sorted(loaded.datasources) == ["events", "other"]
    assert sorted(loaded.pipes) == ["by_user", "need"]
    events = loaded.datasources["events"]
    assert [(token.name, token.permission) for token in events.tokens] == [
        ("events_append", "APPEND"),
        ("events_read", "READ"),
    ]
    assert events.engine == "ReplacingMergeTree"
    assert events.options == {
        "PARTITION_KEY": "toYYYYMM(at)",
        "SORTING_KEY": "toStartOfHour(at), event_id",
        "VER": "version",
        "TTL": "toDateTime(at) + toIntervalYear(50)",
    }
    assert events.indexes == ("by_user user TYPE set(100) GRANULARITY 4",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`a` String `json:$.a`", ("a", "String", "$.a", None, None)),
        ("a String `json:$.a` DEFAULT 'x, y'", ("a", "String", "$.a", "'x, y'", None)),
        ("a String DEFAULT 'x' `json:$.a`", ("a", "String", "$.a", "'x'", None)),
        ("`a b` UInt8 DEFAULT 1 + 2", ("a b", "UInt8", None, "1 + 2", None)),
        ("a Decimal(38, 12) `json:$.a.b` DEFAULT 0,", ("a", "Decimal(38, 12)", "$.a.b", "0", None)),
        ("a DateTime64(3, 'UTC') DEFAULT now64(3)", ("a", "DateTime64(3, 'UTC')", None, "now64(3)", None)),
        ("a Array(Map(String, String)) `json:$.a[:]`", ("a", "Array(Map(String, String))", "$.a[:]", None, None)),
        ("a Nullable(String) `json:$.a` DEFAULT NULL", ("a", "Nullable(String)", "$.a", None, None)),
        ("a Int64 `json:$.a` CODEC(Delta, ZSTD(1))", ("a", "Int64", "$.a", None, "CODEC(Delta, ZSTD(1))")),
        ("a Enum8('x, y' = 1, 'z' = 2)", ("a", "Enum8('x, y' = 1, 'z' = 2)", None, None, None)),
        ("-- a comment\na String DEFAULT '--'", ("a", "String", None, "'--'", None)),
        ("a\n  String\n  DEFAULT 'it''s \\' \\\\'", ("a", "String", None, "'it''s \\' \\\\'", None)),
    ],
)
def test_a_column_is_read(text: str, expected: tuple[str, str, str | None, str | None, str | None]) -> None:
    """Name, type, path, default and codec, in any order after the type."""
    found = column(text)

    assert (found.name, found.type, found.path, found.default, found.codec) == expected


def test_columns_know_their_lines() -> None:
    """Counted in the file, blank lines and comments included."""
    assert [(each.name, each.line) for each in schema("a String,\n\n-- b is next\nb Int8, c Int8,\nd\nInt8")] == [
        ("a", 2),
        ("b", 5),
        ("c", 5),
        ("d", 6),
    ]


@pytest.mark.parametrize(
    ("type_", "nullable"),
    [("Nullable(String)", True), ("LowCardinality(Nullable(String))", True), ("String", False)],
)
def test_a_column_knows_whether_it_is_nullable(type_: str, nullable: bool) -> None:
    assert column(f"a {type_}").nullable is nullable


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("$.a", ("a",)),
        ("$.a.b_c", ("a", "b_c")),
        ("$.a[:]", ("a", EACH)),
        ("$.a[:].b", ("a", EACH, "b")),
        ("$.['a key'].b", ("a key", "b")),
        ('$["x.y"]', ("x.y",)),
    ],
)
def test_a_path_is_parsed(path: str, steps: tuple[str, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["a", "$a", "$.", "$.a[0]", "$..a", "$.a b"])
def test_a_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSON path"):
        parse_path(path)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("SCHEMA >\n    a String,\n    a Int8\n", 3, "column a is in the schema twice"),
        ("SCHEMA >\n    a String,\n    b\n", 3, "column b has no type"),
        ("SCHEMA >\n    a String DEFAULT\n", 2, "column a: DEFAULT has no value"),
        ("SCHEMA >\n    a-b String\n", 2, "column name a-b contains invalid characters: use backticks"),
        ("SCHEMA >\n    a String NOT NULL\n", 2, "column a: NOT NULL is not supported"),
        ("SCHEMA >\n    a String NULL\n", 2, "column a: NULL is not supported"),
        ("SCHEMA >\n    a String MATERIALIZED 1\n", 2, "column a: MATERIALIZED columns are not supported"),
        ("SCHEMA >\n    a String `json:$.a` `json:$.b` x\n", 2, "column a: unexpected x"),
        ("SCHEMA >\n    a String `json:a`\n", 2, "column a: a JSON path begins with $"),
        ("SCHEMA >\n    a String,\n    b Array(String\n", 3, "expected closing parenthesis"),
        ("SCHEMA >\n    a String DEFAULT 'x\n", 2, "expected closing '"),
        ("SCHEMA >\n    a String)\n", 2, ") has no opening counterpart"),
        ("SCHEMA >\n\n", 2, "the schema has no columns"),
        ('ENGINE "MergeTree"\n', 1, "there is no SCHEMA"),
        ("# comment\n\nSHEMA >\n    a String\n", 3, "SHEMA is not a valid option in datasource files"),
        ("SCHEMA >\n    a String\nSCHEMA >\n    b String\n", 3, "SCHEMA is there twice, first on line 1"),
        ('SCHEMA >\n    a String\nENGINE "Log"\n', 3, "ENGINE Log is not one the sandbox knows"),
        (
            'SCHEMA >\n    a String\nENGINE "MergeTree"\nENGINE_VER "a"\n',
            4,
            "ENGINE_VER doesn't go with ENGINE MergeTree",
        ),
        ('SCHEMA >\n    a String\nTOKEN "x" WRITE\n', 3, "TOKEN takes a name and READ or APPEND"),
        ("SCHEMA >\n    a String\nINDEXES >\n    INDEX i a\n", 4, "an index is written"),
    ],
)
def test_a_wrong_datasource_is_refused_with_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DatafileError) as caught:
        parse_datasource(text, name="ds", path="datasources/ds.datasource")

    assert (caught.value.path, caught.value.line) == ("datasources/ds.datasource", line)
    assert caught.value.message.startswith(message)
    assert str(caught.value).startswith(f"datasources/ds.datasource:{line}: ")


def test_a_datafile_error_survives_pickling() -> None:
    """With all its fields, as between processes."""
    error = pickle.loads(pickle.dumps(DatafileError("f", 3, "wrong")))

    assert (error.path, error.line, error.message) == ("f", 3, "wrong")


def table_of(rest: str) -> str:
    datasource = parse_datasource(f"SCHEMA >\n    a String,\n    v UInt64\n{rest}", name="ds")
    return create_table(datasource)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("", "ENGINE = MergeTree()\nORDER BY tuple()"),
        ('ENGINE_SORTING_KEY "tuple()"', "ENGINE = MergeTree()\nORDER BY tuple()"),
        ("ENGINE_SORTING_KEY a, v  # both", "ENGINE = MergeTree()\nORDER BY (a, v)"),
        (
            "ENGINE ReplacingMergeTree\nENGINE_VER v\nENGINE_SORTING_KEY a",
            "ENGINE = ReplacingMergeTree(v)\nORDER BY (a)",
        ),
        ('ENGINE_PARTITION_KEY ""\nENGINE_SORTING_KEY a', "ENGINE = MergeTree()\nORDER BY (a)"),
        (
            "ENGINE_PRIMARY_KEY a\nENGINE_SORTING_KEY a, v\nENGINE_SETTINGS index_granularity = 256",
            "ENGINE = MergeTree()\nPRIMARY KEY (a)\nORDER BY (a, v)\nSETTINGS index_granularity = 256",
        ),
    ],
)
def test_a_table_is_made_as_the_engine_lines_say(rest: str, expected: str) -> None:
    assert table_of(rest).endswith(expected)


def test_a_quarantine_holds_every_column_as_text(project: Path) -> None:
    """And the four columns with the reason."""
    made = create_quarantine(load_project(project).datasources["other"])

    assert "`n` Nullable(String)" in made
    for name in ("c__error_column Array(String)", "c__error Array(String)", "c__import_id", "insertion_date"):
        assert name in made


def test_a_pipe_is_read(project: Path) -> None:
    """Nodes in order, templates recognised by their %, and the line where each one's SQL begins."""
    pipe = load_project(project).pipes["by_user"]

    assert [(node.name, node.template, node.endpoint) for node in pipe.nodes] == [
        ("chosen", True, False),
        ("summed", False, False),
        ("endpoint", True, True),
    ]
    assert pipe.endpoint.name == "endpoint"
    lines = (project / "endpoints" / "by_user.pipe").read_text().splitlines()
    assert lines[pipe.nodes[0].line - 1].strip() == "%"
    assert lines[pipe.nodes[1].line - 1].strip().startswith("SELECT user, count()")


def test_sql_on_the_line_itself() -> None:
    """As in short pipes."""
    pipe = parse_pipe("NODE n\nSQL SELECT 1 AS x\nTYPE endpoint\n", name="p")

    assert pipe == Pipe(name="p", path="p.pipe", nodes=pipe.nodes)
    assert (pipe.endpoint.sql, pipe.endpoint.line) == ("SELECT 1 AS x", 2)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "there is no NODE"),
        ("SQL >\n    SELECT 1\n", 1, "SQL must come after a NODE"),
        ("NODE a b\n", 1, "NODE needs a name"),
        ("NODE a\nSQL >\n    SELECT 1\nNODE a\n", 4, "node a is there twice"),
        ("NODE a\nTYPE endpoint\n", 1, "node a has no SQL"),
        ("NODE a\nSQL >\n    SELECT 1\n", 3, "a pipe needs exactly one node with TYPE endpoint, it has none"),
        ("NODE a\nSQL SELECT 1\nTYPE endpoint\nNODE b\nSQL SELECT 1\nTYPE endpoint\n", 5, "a pipe needs exactly one"),
        ("NODE a\nSQL SELECT 1\nSQL SELECT 2\n", 3, "node a has a second SQL"),
        ("NODE a\nSQL SELECT 1\nTYPE materialized\n", 3, "TYPE materialized is not supported by the sandbox"),
        ("NODE a\nDATASOURCE x\n", 2, "DATASOURCE is not a valid option in pipe files"),
    ],
)
def test_a_wrong_pipe_is_refused_with_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DatafileError) as caught:
        parse_pipe(text, name="p")

    assert (caught.value.path, caught.value.line) == ("p.pipe", line)
    assert caught.value.message.startswith(message)


def test_the_project_that_birdfeed_ships_is_read() -> None:
    """What a sandbox serves by default."""
    pytest.importorskip("birdfeed_schemas")

    assert {"llm_events", "image_events"} <= set(load_project(packaged_project()).datasources)


def test_a_folder_without_data_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="there is no datasources"):
        load_project(tmp_path)


def test_a_data_source_and_a_pipe_may_not_share_a_name(tmp_path: Path) -> None:
    """Queries use the names of both in the same way."""
    (tmp_path / "datasources").mkdir()
    (tmp_path / "endpoints").mkdir()
    (tmp_path / "datasources" / "x.datasource").write_text("SCHEMA >\n    a String\n")
    (tmp_path / "endpoints" / "x.pipe").write_text("NODE n\nSQL SELECT 1\nTYPE endpoint\n")

    with pytest.raises(SandboxError, match="x: a data source and a pipe can't share a name"):
        load_project(tmp_path)


def test_reading_datafiles_needs_no_engine_and_no_server() -> None:
    """Other tests use the parser where the extra isn't installed."""
    heavy = "{'chdb', 'starlette', 'uvicorn', 'tornado', 'orjson', 'zstandard', 'httpx'}"
    code = f"import sys, birdfeed_sandbox.datafiles.project; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_a_datasource_is_plain_data() -> None:
    """Parsed twice, the results are equal."""
    text = "SCHEMA >\n    a String\n"

    assert parse_datasource(text, name="x") == parse_datasource(text, name="x")
    assert isinstance(parse_datasource(text, name="x"), Datasource)
