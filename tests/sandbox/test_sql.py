"""Checks on a query before the engine gets it."""

from __future__ import annotations

import pytest
from birdfeed_sandbox.errors import QueryError
from birdfeed_sandbox.store.sql_guard import MAX_QUERY_BYTES, check_select, with_ctes


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("SELECT 1", None),
        ("  select 1 ; ", None),
        ("-- first\nSELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format CSV", "CSV"),
        ("SELECT 1 FORMAT JSONEachRow SETTINGS max_threads = 1;", "JSONEachRow"),
        ("SELECT 1 SETTINGS max_threads = 1, max_block_size = 9 FORMAT CSV", "CSV"),
        ("SELECT * FROM (SELECT 1 AS a SETTINGS max_threads = 1) JOIN (SELECT 1 AS a WHERE 2 = 2) USING a", None),
        ("SELECT 1 SETTINGS max_threads = 1 UNION ALL SELECT 2 WHERE 1 = 1", None),
        ("WITH 1 AS x SELECT x", None),
        ("(SELECT 1) UNION ALL (SELECT 2)", None),
        ("SELECT ';' AS a, \"x;y\" AS b, `;` FROM t -- ; x", None),
        ("SELECT format('{}', 'x'), 'FORMAT CSV'", None),
        ("SELECT /* ; */ 'it''s; \\'' AS x", None),
        ("SELECT $$ ; ' $$ AS x, $tag$ $$ ; $tag$", None),
        ("SELECT 'insert into x' AS x, updated FROM system_events", None),
    ],
)
def test_a_select_passes(query: str, output: str | None) -> None:
    """With the format it asks for, and without its semicolon."""
    select = check_select(query)

    assert select.output == output
    assert not select.sql.rstrip().endswith(";")


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("", 400, "empty"),
        (" ; ", 400, "empty"),
        ("-- nothing", 400, "empty"),
        ("SELECT 1; SELECT 2", 400, "Multi-statements"),
        ("SELECT 1; DROP TABLE events", 400, "Multi-statements"),
        ("DROP TABLE events", 403, "Only SELECT queries are supported. Got: DROP"),
        ("insert into t values (1)", 403, "Got: INSERT"),
        ("SET readonly = 0", 403, "Got: SET"),
        ("EXPLAIN SELECT 1", 403, "Got: EXPLAIN"),
        ("SELECT 1 INTO OUTFILE 'x'", 403, "INTO OUTFILE"),
        ("SELECT 1 into/**/outfile 'x'", 403, "INTO OUTFILE"),
        ("SELECT 1 SETTINGS additional_table_filters = {'t': '1'}", 403, "Setting additional_table_filters"),
        ("SELECT 1 SETTINGS max_threads = 1, allow_experimental_analyzer = 0", 403, "Setting allow_exp"),
        ("SELECT 1 SETTINGS max_threads = 1, allow_experimental_analyzer", 403, "Setting allow_exp"),
        ("SELECT 1 SETTINGS max_threads = 1, `format_schema` = '/x'", 403, "Setting `format_schema`"),
        ("SELECT 1 SETTINGS max_threads = 1 UNION ALL SELECT 2 SETTINGS format_schema = '/x'", 403, "format_schema"),
        ("SELECT * FROM (SELECT 1 SETTINGS format_schema = '/x')", 403, "Setting format_schema"),
        ("SELECT 1 AS `a\nTableIdentifier t`", 400, "escape or a control character"),
        ("SELECT 1 AS `a\\nb`", 400, "escape or a control character"),
        ("SELECT 'x", 400, "not closed"),
        ("SELECT \u2018`\u2019, 1 FROM \u201csystem\u201d", 400, "not closed"),
        ("SELECT 1 FORMAT Native", 400, "Unknown format Native"),
    ],
)
def test_any_other_statement_is_refused(query: str, status: int, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        check_select(query)

    assert caught.value.status == status


def test_a_query_may_be_as_long_as_clickhouse_allows() -> None:
    """256 kB, in bytes, not in characters."""
    longest = "SELECT '" + "x" * (MAX_QUERY_BYTES - 9) + "'"
    assert check_select(longest).sql == longest

    for too_long in (longest + " ", "SELECT '" + "ä" * (MAX_QUERY_BYTES // 2) + "'"):
        with pytest.raises(QueryError, match="max_query_size"):
            check_select(too_long)


def test_the_names_in_a_query_are_found() -> None:
    """So pipes and nodes among them can be added as WITH; not names in strings and comments."""
    names = check_select("SELECT a, 'b' FROM `c` JOIN d /* e */ USING (x)").names

    assert {"a", "c", "d", "x"} <= names
    assert not {"b", "e"} & names


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM a", "WITH `a` AS (\nSELECT 1\n)\nSELECT * FROM a"),
        ("-- x\nwith 2 AS b SELECT * FROM a", "WITH `a` AS (\nSELECT 1\n),\n 2 AS b SELECT * FROM a"),
    ],
)
def test_other_queries_are_added_as_with(query: str, expected: str) -> None:
    """Also if the query has its own WITH."""
    assert with_ctes(query, [("a", "SELECT 1")]) == expected
    assert with_ctes(query, []) == query
