"""Data sources: keys that repricing can't change, types wide enough for every value, tokens with the least scope."""

import random
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.datafiles.datasource import Datasource
from birdfeed_sandbox.datafiles.project import load_project, packaged_project
from birdfeed_schemas.datafiles import columns_of, datafiles

from tests.support import rows as made
from tests.support.repository import DOCS
from tests.support.stored import post

PROJECT = load_project(packaged_project())
#: Set by track_event, and the same in every version of a row.
FROZEN = {"event_id", "event_type", "occurred_at", "model"}
each = pytest.mark.parametrize("datasource", PROJECT.datasources.values(), ids=lambda one: one.name)


@each
def test_sorting_keys_have_only_fields_that_never_change(datasource: Datasource) -> None:
    """ReplacingMergeTree merges rows of equal keys in one partition: a key that contains the tier would keep both."""
    names = {column.name for column in datasource.columns}
    keys = datasource.options["SORTING_KEY"], datasource.options["PARTITION_KEY"]

    assert datasource.engine == "ReplacingMergeTree"
    assert datasource.options["VER"] == "enriched_at"
    assert {word for key in keys for word in re.findall(r"\w+", key) if word in names} <= FROZEN
    assert datasource.options["SORTING_KEY"].split(", ")[-1] == "event_id"
    assert datasource.options["PARTITION_KEY"] == "toYYYYMM(occurred_at)"


@each
def test_types_are_wide_enough_for_every_value(datasource: Datasource) -> None:
    """Counts of 64 bits, exact costs from text, times to the millisecond.

    The version's resolution is finer than the time between retries.
    """
    for column in datasource.columns:
        if column.name.endswith("_tokens"):
            assert column.type == "UInt64"
        elif column.name in ("occurred_at", "timestamp", "end_time"):
            assert column.type == "DateTime64(3)"
    types = {column.name: (column.type, column.path) for column in datasource.columns}
    assert types["cost"] == ("Decimal(38, 12)", "$.cost_exact")
    assert types["enriched_at"] == ("DateTime64(6)", "$.enriched_at")


def test_tokens_have_the_least_scope() -> None:
    """Writers can't read, dashboards read no table."""
    tables = {(token.name, token.permission) for one in PROJECT.datasources.values() for token in one.tokens}
    endpoints = {(token.name, token.permission) for one in PROJECT.pipes.values() for token in one.tokens}

    assert tables == {("birdfeed_append", "APPEND"), ("birdfeed_verify", "READ")}
    assert endpoints == {("birdfeed_read", "READ")}


@each
def test_the_workers_parser_of_datafiles_agrees(datasource: Datasource) -> None:
    """schemas/project.py reads columns by a pattern; the sandbox's parser is the reference."""
    read = [(column.name, column.type, column.path, column.optional) for column in columns_of(datasource.name)]

    assert read == [(one.name, one.type, one.path, one.default is not None) for one in datasource.columns]


def test_the_project_is_what_init_writes() -> None:
    """Every shipped datafile, and no other file."""
    root = files("birdfeed_schemas") / "data"
    there = {f"{folder}/{file.name}" for folder in ("datasources", "endpoints") for file in (root / folder).iterdir()}

    assert set(datafiles()) == there


@pytest.mark.parametrize("name", PROJECT.pipes)
def test_every_endpoint_and_parameter_is_in_the_docs(name: str) -> None:
    """docs/reference/analytics.md names them; parameters of single endpoints are in the endpoint's row."""
    text = (DOCS / "reference" / "analytics.md").read_text()
    [row] = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    sql = " ".join(node.sql for node in PROJECT.pipes[name].nodes)
    taken = set(re.findall(r"\{\{ ?\w+\((\w+),", sql)) | set(re.findall(r"defined\((\w+)\)", sql))

    assert taken >= {"since", "until", "timezone", "model", "provider", "tier", "user", "environment"}
    for parameter in taken:
        assert f"`{parameter}`" in text
    for parameter in {"top", "order", "limit", "every"} & taken:
        assert f"`{parameter}`" in row


def test_the_docs_sql_runs(store: Sandbox) -> None:
    """The example of docs/reference/analytics.md."""
    for sql in re.findall(r"```sql\n(.*?)```", (DOCS / "reference" / "analytics.md").read_text(), re.DOTALL):
        assert store.sql(sql) == []


def test_the_docs_weights_count_all_events(store: Sandbox) -> None:
    """20 of 80 were sent, besides 3 errors: the second example of docs/reference/analytics.md."""
    dice, now = random.Random(7), datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    kept = {"model": "m", "status": "success", "duration": 1_000, "sample_rate": 0.25}
    rows = [made.built(dice, "text_generation", now, kept) for _ in range(20)]
    rows += [made.built(dice, "text_generation", now, {"model": "m", "error": "x", "duration": 10}) for _ in range(3)]
    assert post(store, "llm_events", rows) == {"successful_rows": 23, "quarantined_rows": 0}
    [weighted] = [
        sql
        for sql in re.findall(r"```sql\n(.*?)```", (DOCS / "reference" / "analytics.md").read_text(), re.DOTALL)
        if "sample_rate" in sql
    ]
    [told] = store.sql(weighted)
    costs = [float(row["cost_exact"]) for row in rows]

    assert (told["requests"], told["errors"], told["p95_ms"]) == (83, 3, 1_000)
    assert told["usd"] == pytest.approx(4 * sum(costs[:20]) + sum(costs[20:]))
    assert told["prompt_text"] == sum(
        row.get("tokens", {}).get("prompt_text", 0) / row.get("sample_rate", 1) for row in rows
    )
