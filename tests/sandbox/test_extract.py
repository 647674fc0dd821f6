"""From NDJSON to rows: what is written, what is quarantined, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from birdfeed_sandbox.datafiles.datasource import parse_datasource
from birdfeed_sandbox.errors import BodyError, DatafileError
from birdfeed_sandbox.ingest.column_types import ColumnType, parse_type
from birdfeed_sandbox.ingest.extract import Batch, Extractor, QuarantineRule, dig


def extractor(columns: str) -> Extractor:
    return Extractor(parse_datasource(f"SCHEMA >\n    {columns}\n", name="ds"))


def take(columns: str, *rows: Any) -> Batch:
    body = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return extractor(columns).extract(body.encode("utf-8", "surrogatepass"))


def taken(type_: str, value: Any, **options: bool) -> Any:
    """What a column of this type stores for a value, or the reason for the quarantine."""
    line = value if isinstance(value, str) and value.startswith("RAW:") else json.dumps(value)
    batch = take(
        f"a {type_} `json:$.a`, b String `json:$.b`", f'{{"a":{line.removeprefix("RAW:")},"b":"x"}}', **options
    )
    if batch.quarantined:
        assert batch.quarantined[0].columns == ["a"]
        return f"refused: {batch.quarantined[0].errors[0]}"
    return batch.rows[0]["a"]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("String", "x", "x"),
        ("LowCardinality(String)", "x", "x"),
        ("Nullable(String)", "x", "x"),
        ("String", {"k": [1]}, {"k": [1]}),  # the engine stores it as JSON text
        ("UInt16", 65_535, 65_535),
        ("UInt16", 70_000, 70_000),  # the engine wraps it
        ("Int8", -1, -1),
        ("UInt8", True, 1),
        ("UInt64", "RAW:18446744073709551616", "18446744073709551616"),
        ("Int256", "RAW:-9223372036854775809", "-9223372036854775809"),
        ("Float32", 1.5, 1.5),
        ("Float64", 2, 2),
        ("Float64", True, 1.0),
        ("Decimal(38, 12)", "1.123456789012", "1.123456789012"),
        ("Decimal(38, 12)", "-1e-7", "-1e-7"),
        ("Decimal(38, 12)", 0.5, 0.5),
        ("Decimal64(4)", 3, 3),
        ("Bool", True, True),
        ("Bool", 0, False),
        ("DateTime64(3)", "2026-11-01T10:00:00.123456Z", "2026-11-01T10:00:00.123456Z"),
        ("DateTime", "2026-11-01 10:00:00", "2026-11-01 10:00:00"),
        ("DateTime", "2024-02-29T23:59:59+02:00", "2024-02-29T23:59:59+02:00"),
        ("DateTime", 1_700_000_000, 1_700_000_000),
        ("Date", "2026-11-30", "2026-11-30"),
        ("UUID", "0190e0b0-0000-7000-8000-000000000000", "0190e0b0-0000-7000-8000-000000000000"),
        ("Enum8('a' = 1, 'b' = 2)", "b", "b"),
        ("Enum8('a' = 1, 'b' = 2)", 1, 1),
        ("FixedString(2)", "ab", "ab"),
        ("Array(String)", ["a", None], ["a", None]),
        ("Array(UInt8)", [], []),
        ("Map(String, UInt8)", {"k": 1}, {"k": 1}),
        ("Array(Map(String, String))", [{"k": "v"}], [{"k": "v"}]),
        ("Tuple(UInt8, String)", [1, "a"], [1, "a"]),  # a type without a check: the engine judges
    ],
)
def test_a_value_that_fits_is_written(type_: str, value: Any, expected: Any) -> None:
    assert taken(type_, value) == expected


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        ("UInt16", "12", "Invalid value, should be UInt16 but is String"),
        ("UInt16", 1.5, "should be UInt16 but is Number"),
        ("UInt16", {"a": 1}, "but is Object"),
        ("UInt16", -1, "Unsigned type UInt16 must not contain '-' symbol"),
        ("Float32", "1.5", "should be Float but is String"),
        ("Decimal(9, 2)", "abc", "should be Decimal(9,2) but is String"),
        ("Decimal(9, 2)", True, "but is Bool"),
        ("Decimal(9, 2)", "10000000", "out of range for Decimal(9,2)"),
        ("Decimal(9, 2)", 10_000_000, "out of range for Decimal(9,2)"),
        ("Bool", "true", "should be Bool but is String"),
        ("Bool", 2, "should be Bool but is Number"),
        ("DateTime64(3)", "yesterday", "should be DateTime64 but is String"),
        ("DateTime", "2026-13-01 00:00:00", "should be DateTime"),
        ("DateTime", "2026-02-30 00:00:00", "should be DateTime"),
        ("DateTime", "2026-11-01T25:00:00Z", "should be DateTime"),
        ("DateTime", True, "but is Bool"),
        ("DateTime", "", "but is String"),
        ("Date", "2026-11-01T00:00:00Z", "should be Date"),
        ("UUID", "x", "should be UUID"),
        ("Enum8('a' = 1)", "c", "should be one of a"),
        ("FixedString(2)", "abc", "Too large value for FixedString(2)"),
        ("Array(String)", "a", "should be Array but is String"),
        ("Array(UInt8)", [1, "x"], "should be UInt8 but is String"),
        ("Map(String, UInt8)", {"k": "x"}, "should be UInt8 but is String"),
        ("Map(String, UInt8)", [1], "should be Map but is Array"),
        ("String", 'RAW:"\\ud800"', "lone surrogate"),
        ("Array(String)", 'RAW:["\\udfff"]', "lone surrogate"),
        ("String", 'RAW:{"k":"\\ud800"}', "lone surrogate"),
        ("Tuple(String)", 'RAW:["\\ud800"]', "lone surrogate"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_a_reason(type_: str, value: Any, reason: str) -> None:
    """The reason has the path, too."""
    refused = taken(type_, value)

    assert str(refused).startswith("refused: ")
    assert reason in refused
    assert refused.endswith("While accessing jsonpath '$.a'")


def test_missing_and_null_are_the_same() -> None:
    """With a default or Nullable the key is left to the engine; otherwise the row is quarantined."""
    columns = "a String `json:$.a`, b UInt8 `json:$.b` DEFAULT 3, c Nullable(UInt8) `json:$.c` DEFAULT 4"

    batch = take(
        columns, {"a": "1"}, {"a": "2", "b": None, "c": None}, {"a": "3", "b": 5, "c": 6}, {"b": 1}, {"a": None}
    )

    assert [row["a"] for row in batch.rows] == ["1", "2", "3"]
    assert [row.get("b") for row in batch.rows] == [None, None, 5]
    assert ["c" in row for row in batch.rows] == [False, False, True]
    assert [row.columns for row in batch.quarantined] == [["a"], ["a"]]
    assert batch.quarantined[0].errors == [
        "Strict type checking failed. Object does not have column 'a', you should send a value or recreate the table"
        " with a Nullable column type. While accessing jsonpath '$.a'"
    ]


def test_a_quarantined_row_has_what_was_received_and_every_reason() -> None:
    """As text, by column; lone surrogates escaped."""
    columns = "a UInt8 `json:$.a`, b String `json:$.b`, c Nullable(String) `json:$.c`, d String `json:$.d` DEFAULT ''"

    batch = take(columns, '{"a": {"x": 1}, "b": null, "d": "\\ud800!"}')

    [row] = batch.quarantined
    assert row.values == {"a": '{"x":1}', "b": None, "c": None, "d": "\\ud800!"}
    assert row.columns == ["a", "b", "d"]
    assert len(row.errors) == 3


def test_paths_reach_into_objects_and_arrays() -> None:
    """Where a part of the path is missing or of another type, there is no value."""
    columns = (
        "a String `json:$.o.p.q` DEFAULT '', b Array(String) `json:$.l[:]` DEFAULT [],"
        " c Array(UInt8) `json:$.l2[:].n` DEFAULT [], d String `json:$` DEFAULT '', e String `json:$.o` DEFAULT ''"
    )

    batch = take(
        columns, {"o": {"p": {"q": "x"}}, "l": ["a"], "l2": [{"n": 1}, {"n": 2}, {}]}, {"o": "text"}, {"o": {"p": 3}}
    )

    assert [row["a"] for row in batch.rows] == ["x", None, None]
    assert [row["b"] for row in batch.rows] == [["a"], None, None]
    assert batch.rows[0]["c"] == [1, 2, None]
    assert batch.rows[1]["d"] == {"o": "text"}
    assert [row["e"] for row in batch.rows][1:] == ["text", {"p": 3}]


def test_a_row_of_another_type_does_not_change_the_others() -> None:
    """The fast path and the slow path give the same rows."""
    columns = "n UInt8 `json:$.n`, s String `json:$.s`"
    good = [{"n": number, "s": str(number)} for number in range(50)]

    batch = take(columns, *good[:25], {"n": "x", "s": "bad"}, *good[25:], '{"n": 1, "s": "\\ud800"}')

    assert batch.rows == good
    assert [row.values["s"] for row in batch.quarantined] == ["bad", "\\ud800"]


def test_a_rule_quarantines_rows_whatever_their_types() -> None:
    body = b'{"a": "x", "deep": {"k": 1}}\n{"a": "y", "deep": {"k": 2}}'

    batch = extractor("a String `json:$.a`").extract(body, rule=QuarantineRule(path="$.deep.k", equals=2))

    assert [row["a"] for row in batch.rows] == ["x"]
    assert batch.quarantined[0].columns == ["$.deep.k"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"\n \r\n", "the body is empty"),
        (b'{"a":1}\n[1]', "line 2 is not a JSON object"),
        (b'{"a":1}\n\n{"a":', "line 2 is not valid JSON"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":1},{"a":2}', "line 1 is not valid JSON"),
        (b"\xff\xfe{}", "line 1 is not valid JSON"),
        (b"[" * 100_000, "line 1 is not valid JSON"),
    ],
)
def test_a_body_that_is_not_ndjson_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BodyError, match=message):
        extractor("a UInt8 `json:$.a`").extract(body)


def test_blank_lines_and_carriage_returns_are_ignored() -> None:
    assert extractor("a UInt8 `json:$.a`").extract(b'\n{"a":1}\r\n\r\n{"a":2}\n').rows == [{"a": 1}, {"a": 2}]


def test_columns_without_a_path_get_no_value() -> None:
    assert take("a UInt8 `json:$.a`, at DateTime DEFAULT now()", {"a": 1, "at": "x"}).rows == [{"a": 1}]


def test_a_type_that_cannot_be_read_names_its_line() -> None:
    with pytest.raises(DatafileError, match=r"ds.datasource:2: column a: the type FixedString can't be read"):
        extractor("a FixedString `json:$.a`")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("String", ColumnType("String")),
        ("LowCardinality(Nullable(String))", ColumnType("String", (), True)),
        ("DateTime64(3, 'Europe/Berlin')", ColumnType("DateTime64", ("3", "'Europe/Berlin'"))),
        ("Map(String, Array(UInt8))", ColumnType("Map", ("String", "Array(UInt8)"))),
        ("Enum8('a,b' = 1, 'c)' = 2)", ColumnType("Enum8", ("'a,b' = 1", "'c)' = 2"))),
        ("SimpleAggregateFunction(sum, UInt64)", ColumnType("UInt64")),
    ],
)
def test_types_are_parsed(text: str, expected: ColumnType) -> None:
    assert parse_type(text) == expected


def test_the_value_at_a_path() -> None:
    assert dig({"a": [{"b": 1}, {}]}, ("a", "[:]", "b")) == [1, None]
    assert dig({"a": 1}, ("a", "b")) is None
