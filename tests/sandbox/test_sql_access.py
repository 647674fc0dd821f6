"""With a token a client can read or write the workspace, and nothing else on this machine."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from birdfeed_sandbox import Sandbox, SandboxError
from birdfeed_sandbox.errors import QueryError
from birdfeed_sandbox.store.sql_tree import check_read

#: Each reads from elsewhere: a file, a host, a program, another database, the engine itself.
OUTSIDE = [
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM file('/etc/hostname', 'LineAsString')",
    "SELECT * FROM fileCluster('c', '/etc/hostname')",
    "SELECT * FROM /* x */ `file` /* y */ ('/etc/hostname')",
    "SELECT * FROM (SELECT * FROM (SELECT * FROM url('http://127.0.0.1/')))",
    "SELECT * FROM s3('http://127.0.0.1/x')",
    "SELECT * FROM executable('id', TSV, 'x String')",
    "SELECT * FROM python('x')",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM sqlite('/tmp/x', 't')",
    "SELECT * FROM merge('system', '.*')",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM loop(file('/etc/hostname'))",
    "SELECT * FROM view(SELECT * FROM file('/etc/hostname'))",
    "SELECT * FROM viewIfPermitted(SELECT 1 ELSE null('x UInt8'))",
    "SELECT * FROM mergeTreeIndex(workspace, events)",
    "WITH x AS (SELECT * FROM file('/etc/hostname')) SELECT * FROM x",
    "SELECT 1 UNION ALL SELECT length(file('/etc/hostname'))",
    "SELECT hostName()",
    "SELECT sleep(3)",
    "SELECT dictGet('d', 'a', 1)",
    "SELECT * FROM system.tables",
    "SELECT * FROM `system` . `processes`",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM INFORMATION_SCHEMA.tables",
    "SELECT 1 IN system.one",
    "SELECT * FROM events WHERE event_id IN (system.users)",
    "SELECT * FROM events, system.one",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 SETTINGS additional_result_filter = '1 IN (SELECT * FROM file(\\'x\\'))'",
]

#: Each writes or runs something outside the workspace's tables.
WRITES = [
    "SELECT 1 INTO OUTFILE '{path}'",
    "INSERT INTO FUNCTION file('{path}', 'CSV', 'a UInt8') SELECT 1",
    "INSERT INTO TABLE FUNCTION file('{path}', 'CSV', 'a UInt8') VALUES (1)",
    "INSERT INTO events (event_id) FROM INFILE '/etc/hostname' FORMAT CSV",
    "CREATE TABLE x (a UInt8) ENGINE = File(CSV, '{path}')",
    "CREATE TABLE x AS file('{path}')",
    "CREATE TABLE x (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{path}/')",
    "CREATE TABLE x (a UInt8) ENGINE = URL('http://127.0.0.1/', CSV)",
    "CREATE DATABASE x ENGINE = Filesystem('/')",
    "CREATE DICTIONARY d (a UInt64) PRIMARY KEY a SOURCE(FILE(PATH '/x' FORMAT 'CSV')) LAYOUT(FLAT()) LIFETIME(1)",
    "CREATE FUNCTION f AS x -> x",
    "ATTACH TABLE x FROM '{path}' (a UInt8) ENGINE = File(CSV)",
    "BACKUP TABLE events TO File('{path}')",
    "ALTER TABLE events FREEZE",
    "SYSTEM SHUTDOWN",
    "SYSTEM FLUSH LOGS",
    "SET readonly = 0",
    "USE system",
    "SELECT 1; SELECT 1 INTO OUTFILE '{path}'",
    "SELECT 1 PARALLEL WITH SELECT 2",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS output_format_schema = '{path}'",
]  # fmt: skip


@pytest.mark.parametrize("query", OUTSIDE)
def test_the_read_token_reads_only_the_workspace(read: httpx.Client, query: str) -> None:
    answer = read.post("/v0/sql", content=query)

    assert answer.status_code == 403, answer.text
    assert "documentation" in answer.json()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT sum(number) AS n FROM numbers(4)",
        "SELECT count() AS n FROM events AS system",
        "SELECT n FROM view(SELECT 6 AS n)",
        "SELECT toInt32(format('{}', '6')) AS n",
        "WITH six AS (SELECT 6 AS n) SELECT n FROM six WHERE n IN (SELECT 6) SETTINGS max_threads = 1",
        "SELECT count() AS n FROM workspace.events WHERE event_id IN ('system.one', 'file(1)')",
        "-- file('x')\n(SELECT 3 AS n) UNION ALL (SELECT 3)",
    ],
)
def test_a_query_of_the_workspace_passes(read: httpx.Client, query: str) -> None:
    """Also one that only looks like a forbidden one."""
    answer = read.post("/v0/sql", content=query)

    assert answer.status_code == 200, answer.text
    assert sum(int(row["n"]) for row in answer.json()["data"]) in (0, 6)


@pytest.mark.parametrize("statement", WRITES)
def test_the_admin_token_writes_no_file(tinybird: Sandbox, tmp_path: Path, statement: str) -> None:
    """It may do everything with the tables, and nothing else on the machine."""
    path = tmp_path / "out"

    with pytest.raises(SandboxError):
        tinybird.sql(statement.replace("{path}", str(path)))

    assert not path.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "SYSTEM STOP MERGES events",
        "SYSTEM START MERGES",
        "OPTIMIZE TABLE events FINAL",
        "INSERT INTO events (event_id, at) VALUES ('a; b', now())",
        "INSERT INTO events (event_id, at) SELECT 'b', now()",
        "ALTER TABLE events DELETE WHERE event_id = 'a; b'",
        "DELETE FROM events WHERE 1",
        "SHOW CREATE TABLE events",
        "SELECT * FROM system.parts",
        "TRUNCATE TABLE events",
    ],
)
def test_the_admin_token_works_on_tables(tinybird: Sandbox, statement: str) -> None:
    tinybird.sql(statement)


@pytest.mark.parametrize("column", ["a String DEFAULT file('/etc/hostname')", "a String) ENGINE = File(CSV) --"])
def test_a_datafile_cannot_reach_outside(tinybird: Sandbox, column: str) -> None:
    """Although its text becomes SQL."""
    text = f"SCHEMA >\n    {column}\nENGINE MergeTree\n"

    with pytest.raises(SandboxError):
        tinybird.replace_datasource("other", text)


def test_a_settings_clause_that_the_check_missed_is_refused() -> None:
    """The sandbox and the engine both parse the text; if their results differ, nothing runs."""
    tree = "SelectWithUnionQuery (children 1)\n ExpressionList (children 1)\n  SelectQuery (children 1)\n   Set\n"

    check_read(tree, 1)
    with pytest.raises(QueryError, match="SETTINGS"):
        check_read(tree, 0)
