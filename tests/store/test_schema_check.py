"""`birdfeed tinybird check` and the check at start, with a sandbox whose schema is wrong in every possible way."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_schemas.datafiles import columns_of
from birdfeed_worker.errors import ConfigurationError, QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.schema_check import check_at_start, check_schemas
from birdfeed_worker.tinybird.schema_compare import type_problem

from tests.support.commands import birdfeed, clean_environment
from tests.support.existing import existing_datasource, former_datasource, shipped
from tests.support.servers.redis_servers import free_port

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(store: Sandbox, tmp_path: Path) -> Run:
    """A command of the command line, with settings for the sandbox; others by name."""

    def command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **clean_environment(),
            "TINYBIRD_HOST": store.url,
            "TINYBIRD_TOKEN": store.append_token,
            "TINYBIRD_READ_TOKEN": store.read_token,
            "COLUMNS": "200",
            **settings,
        }
        return birdfeed(*arguments, environment=environment, folder=tmp_path, timeout=60)

    return command


def client(store: Sandbox, **changes: Any) -> Tinybird:
    return Tinybird(
        changes.get("url", store.url),
        store.append_token,
        changes.get("read_token", store.read_token),
        connect_timeout=2,
    )


def problems(store: Sandbox, **changes: Any) -> list[tuple[str, str, str]]:
    with client(store, **changes) as tinybird:
        return [(one.datasource, one.column, one.problem) for one in check_schemas(tinybird)]


def test_our_own_project_fits(store: Sandbox, run: Run) -> None:
    """No finding: exit code 0, and no row is written."""
    done = run("tinybird", "check")

    assert (done.returncode, done.stderr) == (0, "")
    assert "every column fits" in done.stdout
    assert json.loads(run("tinybird", "check", "--json").stdout)["problems"] == []
    assert set(store.state()["tables"].values()) == {0}


CHANGES = [
    (
        "a dropped column",
        "    `tier` LowCardinality(String) `json:$.tier` DEFAULT 'unknown',\n",
        "",
        "tier",
        "no_column",
    ),
    (
        "a narrowed count",
        "`prompt_text_tokens` UInt64",
        "`prompt_text_tokens` UInt16",
        "prompt_text_tokens",
        "narrow_type",
    ),
    ("a narrowed cost", "`cost` Decimal(38, 12)", "`cost` Decimal(18, 6)", "cost", "narrow_type"),
    ("a float", "`cost` Decimal(38, 12) `json:$.cost_exact`", "`cost` Float32 `json:$.cost`", "cost", "narrow_type"),
    ("narrowed times", "`occurred_at` DateTime64(3)", "`occurred_at` DateTime", "occurred_at", "narrow_type"),
    (
        "another type",
        "`user` String `json:$.user` DEFAULT 'unknown'",
        "`user` UInt64 `json:$.user` DEFAULT 0",
        "user",
        "wrong_type",
    ),
    ("a renamed path", "`json:$.username`", "`json:$.userName`", "username", "other_path"),
    ("a path of another field", "`user` String `json:$.user`", "`user` String `json:$.username`", "user", "other_path"),
    (
        "a column of theirs that must have a value",
        "SCHEMA >\n",
        "SCHEMA >\n    `region` String `json:$.region`,\n",
        "region",
        "required_column",
    ),
    (
        "a column of ours without its default",
        "`username` String `json:$.username` DEFAULT ''",
        "`username` String `json:$.username`",
        "username",
        "required_column",
    ),
    (
        "the default of before on a column that short rows leave out",
        "`json:$.cost_status` DEFAULT 'priced'",
        "`json:$.cost_status` DEFAULT 'unpriced'",
        "cost_status",
        "other_default",
    ),
    (
        "a column that short rows leave out, without a default",
        "`json:$.event_type` DEFAULT 'text_generation'",
        "`json:$.event_type`",
        "event_type",
        "required_column",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "column", "problem"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_each_mismatch_is_named(store: Sandbox, before: str, after: str, column: str, problem: str) -> None:
    """With column and fault, and no other finding."""
    text = shipped()
    assert text.count(before) == 1
    store.replace_datasource("llm_events", text.replace(before, after))

    assert problems(store) == [("llm_events", column, problem)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SCHEMA >\n", "SCHEMA >\n    `region` Nullable(String) `json:$.region`,\n"),
        ("SCHEMA >\n", "SCHEMA >\n    `raw` String `json:$.proxy_metadata`,\n"),
        ("`tier` LowCardinality(String)", "`tier` String"),
        ("`prompt_text_tokens` UInt64", "`prompt_text_tokens` UInt128"),
        ("`username` String", "`username` Nullable(String)"),
    ],
)
def test_harmless_differences_are_not_reported(store: Sandbox, before: str, after: str) -> None:
    """Extra columns, wider types, other wrappers."""
    store.replace_datasource("llm_events", shipped().replace(before, after, 1))

    assert problems(store) == []


def test_the_command_names_all_and_exits_1(store: Sandbox, run: Run) -> None:
    """A dropped column, a narrowed type and a renamed path at once, as text and as JSON."""
    text = shipped()
    for _, before, after, *_ in (CHANGES[0], CHANGES[1], CHANGES[6]):
        text = text.replace(before, after)
    store.replace_datasource("llm_events", text)

    done, as_json = run("tinybird", "check"), run("tinybird", "check", "--json")

    assert (done.returncode, as_json.returncode) == (1, 1)
    for word in ("tier", "no_column", "prompt_text_tokens", "65,535", "username", "$.userName"):
        assert word in done.stdout
    found = json.loads(as_json.stdout)["problems"]
    assert {(one["column"], one["problem"]) for one in found} == {
        ("tier", "no_column"),
        ("prompt_text_tokens", "narrow_type"),
        ("username", "other_path"),
    }


def test_the_former_table_fits(store: Sandbox) -> None:
    """It gets whole rows; its columns that were removed since are compared as well."""
    store.replace_datasource("llm_events", former_datasource())
    assert problems(store) == []

    narrow = former_datasource().replace("`total_tokens` UInt64", "`total_tokens` UInt16")
    store.replace_datasource("llm_events", narrow)
    assert problems(store) == [("llm_events", "total_tokens", "narrow_type")]


def test_the_existing_table_is_recognised(store: Sandbox) -> None:
    """Tinybird's template: one sentence says so, and each narrow column is named."""
    store.replace_datasource("llm_events", existing_datasource())

    found = problems(store)

    assert found[0] == ("llm_events", "", "template")
    assert {column for _, column, problem in found[1:] if problem == "narrow_type"} == {
        "timestamp", "end_time", "prompt_tokens", "completion_tokens", "total_tokens", "response_time", "duration",
        "llm_api_duration_ms", "cost",
    }  # fmt: skip
    assert {problem for _, _, problem in found[1:]} == {"narrow_type"}


def test_a_missing_table_is_named(store_process: Sandbox, tmp_path: Path) -> None:
    """As in a workspace where nothing was deployed yet."""
    (tmp_path / "datasources").mkdir()
    (tmp_path / "datasources" / "llm_events.datasource").write_text(shipped())
    with Sandbox(project=tmp_path) as sandbox:
        assert problems(sandbox) == [("image_events", "", "no_table")]


def test_a_token_that_may_not_append_is_named(store: Sandbox, run: Run) -> None:
    """Tested with a line that is not JSON: nothing is written."""
    done = run("tinybird", "check", "--json", TINYBIRD_TOKEN=store.read_token)

    assert done.returncode == 1
    assert [(one["datasource"], one["problem"]) for one in json.loads(done.stdout)["problems"]] == [
        ("llm_events", "no_scope"),
        ("image_events", "no_scope"),
    ]
    assert store.read_token not in done.stdout


def test_a_table_that_the_token_may_not_read_is_named() -> None:
    """403 for one table alone: a scope is missing. 403 for all tables: the token is wrong, not a table."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.content.decode()
        if "image_events" in asked or refused_all:
            return httpx.Response(403, json={"error": "not allowed"})
        meta = [{"name": column.name, "type": column.type} for column in columns_of("llm_events")]
        return httpx.Response(200, json={"meta": meta, "data": []})

    for refused_all in (False, True):
        tinybird = Tinybird("https://x", "a", "r", transport=httpx.MockTransport(answer))
        if refused_all:
            with pytest.raises(QueryError, match="403"):
                check_schemas(tinybird)
        else:
            assert [(one.datasource, one.problem) for one in check_schemas(tinybird)] == [("image_events", "no_scope")]


def test_a_missing_read_token(run: Run) -> None:
    """Nothing can be checked: exit code 2, one sentence."""
    done = run("tinybird", "check", TINYBIRD_READ_TOKEN="")

    assert done.returncode == 2
    assert "TINYBIRD_READ_TOKEN is not set" in " ".join(done.stderr.split())


def test_a_wrong_read_token_and_an_unreachable_host(run: Run) -> None:
    """Wrong settings: exit code 2. No answer: 3. No token in the text."""
    wrong = run("tinybird", "check", TINYBIRD_READ_TOKEN="p.wrong-token-that-nobody-may-see")
    away = run("tinybird", "check", TINYBIRD_HOST=f"http://127.0.0.1:{free_port()}")

    assert (wrong.returncode, away.returncode) == (2, 3)
    assert "nobody-may-see" not in wrong.stderr + wrong.stdout
    assert "can't check" in away.stderr


@pytest.mark.parametrize("side", ["reads", "events"])
@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_tinybird_that_does_not_answer(store: Sandbox, run: Run, side: str, status: int) -> None:
    """Exit code 3, in whichever half of the check; the settings may be right."""
    store.fault(on=side, status=status)

    done = run("tinybird", "check")

    assert done.returncode == 3, done.stdout
    assert "can't check" in done.stderr


def test_init_where_nothing_can_be_written(run: Run, tmp_path: Path) -> None:
    """One sentence with the path and the reason: a folder under /proc, and a file where a folder must be."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "datasources").write_text("")
    for folder in ("/proc/zz", "project"):
        done = run("tinybird", "init", folder)

        assert done.returncode == 2
        assert f"birdfeed: can't write {folder}" in done.stderr
        assert "Traceback" not in done.stderr


def test_init_writes_the_project_and_keeps_edits(run: Run, tmp_path: Path) -> None:
    """Every datafile, as shipped; an edited file is overwritten only with the option."""
    assert run("tinybird", "init", "project").returncode == 0
    written = {str(path.relative_to(tmp_path / "project")) for path in (tmp_path / "project").rglob("*.*")}
    assert {"datasources/llm_events.datasource", "endpoints/birdfeed_cost.pipe"} <= written
    edited = tmp_path / "project" / "datasources" / "llm_events.datasource"
    assert edited.read_text() == shipped()
    assert run("tinybird", "init", "project").returncode == 0

    edited.write_text(shipped() + "\n")
    refused = run("tinybird", "init", "project")
    assert refused.returncode == 2
    assert "datasources/llm_events.datasource" in "".join(refused.stderr.split("\n"))
    assert edited.read_text() == shipped() + "\n"
    assert run("tinybird", "init", "project", "--force").returncode == 0
    assert edited.read_text() == shipped()


def test_the_check_at_start_warns_or_refuses(store: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Depending on the setting; a store that is away never prevents the start."""
    store.replace_datasource("llm_events", shipped().replace(*CHANGES[1][1:3]))
    with client(store) as tinybird:
        check_at_start(tinybird, "off")
        assert caplog.text == ""
        check_at_start(tinybird, "warn")
        assert "llm_events.prompt_text_tokens is UInt16" in caplog.text
        with pytest.raises(ConfigurationError, match=r"llm_events\.prompt_text_tokens is UInt16"):
            check_at_start(tinybird, "refuse")
    for said, changes in (
        ("TINYBIRD_READ_TOKEN is not set", {"read_token": None}),
        ("can't be checked", {"url": f"http://127.0.0.1:{free_port()}"}),
    ):
        caplog.clear()
        with client(store, **changes) as tinybird:
            check_at_start(tinybird, "refuse")
        assert said in caplog.text


def test_a_worker_that_refuses_to_start(store: Sandbox, run: Run, valkey_url: str) -> None:
    """One sentence and exit code 2, before any job is reserved."""
    store.replace_datasource("llm_events", shipped().replace(*CHANGES[0][1:3]))
    done = run("worker", BIRDFEED_REDIS_URL=valkey_url, BIRDFEED_SCHEMA_CHECK="refuse")

    assert done.returncode == 2
    assert "llm_events.tier is missing: $.tier would not be stored" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("live", "ours", "problem"),
    [
        ("UInt64", "UInt64", None),
        ("LowCardinality(Nullable(String))", "String", None),
        ("DateTime64(6, 'UTC')", "DateTime64(3)", None),
        ("DateTime('UTC')", "DateTime64(3)", "narrow_type"),
        ("Int64", "UInt64", None),
        ("UInt32", "UInt32", None),
        ("Int32", "UInt32", "narrow_type"),
        ("UInt32", "UInt64", "narrow_type"),
        ("Float32", "Float64", "narrow_type"),
        ("Decimal(38, 12)", "Decimal(38,12)", None),
        ("Decimal128(18)", "Decimal(38, 12)", None),
        ("Decimal(38, 24)", "Decimal(38, 12)", "narrow_type"),
        ("Decimal64(12)", "Decimal(38, 12)", "narrow_type"),
        ("Float64", "Decimal(38, 12)", "narrow_type"),
        ("String", "Decimal(38, 12)", "wrong_type"),
        ("UInt8", "Bool", None),
        ("FixedString(8)", "String", "narrow_type"),
        ("Array(String)", "String", "wrong_type"),
        ("String", "UInt64", "wrong_type"),
    ],
)
def test_types(live: str, ours: str, problem: str | None) -> None:
    """A type at least as wide fits; a narrower one, or one of another kind, is named."""
    found = type_problem(live, ours)

    assert (found[0] if found else None) == problem
