"""The server beyond the contract: control routes, schemas, pipes, limits, and what only the sandbox has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from birdfeed_sandbox import Sandbox, SandboxError


def event(name: str = "a", **values: Any) -> dict[str, Any]:
    return {"event_id": name, "at": "2026-11-01T10:00:00Z"} | values


def send(client: httpx.Client, *rows: dict[str, Any], to: str = "events", **options: Any) -> httpx.Response:
    body = "\n".join(json.dumps(row) for row in rows).encode()
    return client.post("/v0/events", params={"name": to, "wait": "true"}, content=body, **options)


def test_more_than_twelve_partitions_are_refused_completely(tinybird: Sandbox, append: httpx.Client) -> None:
    """A year fits; thirteen months don't, and none of them is written."""
    months = [f"{2025 + n // 12}-{n % 12 + 1:02}-15T00:00:00Z" for n in range(13)]

    refused = send(append, *[event(month, at=month) for month in months])
    taken = send(append, *[event(month, at=month) for month in months[:12]])

    assert refused.status_code == 400
    assert "Too many partitions" in refused.json()["error"]
    assert taken.json() == {"successful_rows": 12, "quarantined_rows": 0}
    assert tinybird.sql("SELECT count() AS n FROM events") == [{"n": 12}]


def test_numbers_too_large_wrap(tinybird: Sandbox, append: httpx.Client) -> None:
    """As in ClickHouse, silently: 70,000 in a UInt16 is 4,464."""
    assert send(append, event(usage={"tokens": 70_000})).json() == {"successful_rows": 1, "quarantined_rows": 0}
    assert tinybird.sql("SELECT tokens FROM events") == [{"tokens": 4_464}]


def test_replacing_tables_are_read_without_final_unless_it_is_written(tinybird: Sandbox, append: httpx.Client) -> None:
    """All versions without FINAL; with FINAL only the newest."""
    tinybird.sql("SYSTEM STOP MERGES")
    try:
        for version in (2, 1):
            assert send(append, event(version=version)).status_code == 200

        plain = tinybird.sql("SELECT count() AS n FROM events")
        final = tinybird.sql("SELECT version FROM events FINAL")
    finally:
        tinybird.sql("SYSTEM START MERGES")

    assert (plain, final) == ([{"n": 2}], [{"version": 2}])


def test_rows_that_only_the_engine_can_check_are_quarantined_one_by_one(
    tinybird: Sandbox, append: httpx.Client
) -> None:
    """With ClickHouse's own message; the other rows are written."""
    schema = "SCHEMA >\n    `id` String `json:$.id`,\n    `ip` IPv4 `json:$.ip`\nENGINE MergeTree\n"
    tinybird.replace_datasource("other", schema)
    rows = [{"id": str(n), "ip": "1.2.3.4" if n % 3 else "nowhere"} for n in range(7)]

    answer = send(append, *rows, to="other")

    assert answer.json() == {"successful_rows": 4, "quarantined_rows": 3}
    assert [row["id"] for row in tinybird.sql("SELECT id FROM other ORDER BY id")] == ["1", "2", "4", "5"]
    aside = tinybird.sql("SELECT id, ip, c__error_column, c__error FROM other_quarantine ORDER BY id")
    assert [(row["id"], row["ip"], row["c__error_column"]) for row in aside] == [
        (each, "nowhere", ["ip"]) for each in ("0", "3", "6")
    ]
    assert all("Cannot parse IPv4" in row["c__error"][0] for row in aside)


def test_the_table_is_created_as_the_datafile_says(tinybird: Sandbox) -> None:
    """Engine with its version, partition, key, index and TTL, as ClickHouse reads them back."""
    [made] = tinybird.sql("SELECT * FROM system.tables WHERE database = 'workspace' AND name = 'events'")

    assert made["engine_full"].startswith("ReplacingMergeTree(version) PARTITION BY (toYYYYMM(at))")
    assert made["sorting_key"] == "toStartOfHour(at), event_id"
    assert "TTL toDateTime(at) + toIntervalYear(50)" in made["engine_full"]
    assert "INDEX by_user user TYPE set(100) GRANULARITY 4" in made["create_table_query"]


def test_a_pipe_answers_in_the_shape_of_sql(append: httpx.Client, read: httpx.Client) -> None:
    """Nodes build on nodes; parameters have defaults."""
    rows = [event(str(n), who={"user": user}, usage={"tokens": n}) for n, user in enumerate(["ann", "ann", "bob"])]
    assert send(append, *rows).status_code == 200

    answer = read.get("/v0/pipes/by_user.json").json()

    assert answer["data"] == [{"user": "ann", "events": 2, "tokens": 1}, {"user": "bob", "events": 1, "tokens": 2}]
    assert answer["rows"] == 2
    assert [column["name"] for column in answer["meta"]] == ["user", "events", "tokens"]
    assert {"elapsed", "rows_read", "bytes_read"} <= set(answer["statistics"])


@pytest.mark.parametrize(
    ("parameters", "users"),
    [
        ({"user": "bob"}, ["bob"]),
        ({"users": "bob,cleo"}, ["bob", "cleo"]),
        ({"limit": "1"}, ["ann"]),
        ({"since": "2026-11-02 00:00:00"}, []),
        ({"user": "' OR 1=1 --"}, []),
        ({"user": "\\' OR 1=1 --"}, []),
        ({"users": "x') OR (1=1"}, []),
    ],
)
def test_a_pipe_takes_parameters_and_none_is_run_as_sql(
    append: httpx.Client, read: httpx.Client, parameters: dict[str, str], users: list[str]
) -> None:
    """From URL, form and JSON."""
    names = ["ann", "ann", "bob", "cleo"]
    assert send(append, *[event(str(n), who={"user": user}) for n, user in enumerate(names)]).status_code == 200

    answers = [
        read.get("/v0/pipes/by_user.json", params=parameters),
        read.post("/v0/pipes/by_user.json", data=parameters),
        read.post("/v0/pipes/by_user.json", json=parameters),
    ]

    assert [[row["user"] for row in answer.json()["data"]] for answer in answers] == [users] * 3


@pytest.mark.parametrize(
    ("path", "parameters", "status", "message"),
    [
        ("nowhere.json", {}, 404, "The pipe 'nowhere' does not exist"),
        ("by_user.xml", {}, 404, "use /v0/pipes/<name>"),
        ("by_user", {}, 404, "use /v0/pipes/<name>"),
        ("by_user.json", {"limit": "ten"}, 400, "Error validating 'ten' to type Int32"),
        ("by_user.json", {"limit": "1; DROP TABLE events"}, 400, "Error validating"),
        ("by_user.json", {"cols": "user`,(SELECT 1) AS `x"}, 400, "Error validating"),
        ("by_user.json", {"cols": "nope"}, 400, "nope"),
        ("by_user.json", {"since": "yesterday"}, 400, "Error validating 'yesterday' to type DateTime"),
        ("by_user.json", {"worst": "1"}, 400, "worst is not for you"),
        ("need.json", {}, 400, "Check the parameters number, text"),
    ],
)
def test_a_pipe_that_cannot_answer_has_an_error_text(
    read: httpx.Client, path: str, parameters: dict[str, str], status: int, message: str
) -> None:
    answer = read.get(f"/v0/pipes/{path}", params=parameters)

    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_pipe_answers_in_other_formats(read: httpx.Client) -> None:
    parameters = {"number": "1", "text": "x"}

    assert read.get("/v0/pipes/need.csv", params=parameters).text == '"number","text"\n1,"x"\n'
    assert read.get("/v0/pipes/need.ndjson", params=parameters).json() == {"number": 1, "text": "x"}


def test_a_pipe_may_be_queried_like_a_table(append: httpx.Client, read: httpx.Client) -> None:
    assert send(append, event(who={"user": "ann"})).status_code == 200

    answer = read.post("/v0/sql", content="SELECT sum(events) AS n FROM by_user FORMAT JSON")

    assert answer.json()["data"] == [{"n": 1}]


def test_sql_takes_its_query_in_every_form(read: httpx.Client) -> None:
    """URL, form, plain body, JSON; and the format that the query names."""
    query = "SELECT 1 AS a FORMAT JSONCompact"
    answers = [
        read.get("/v0/sql", params={"q": query}),
        read.post("/v0/sql", params={"q": query}),
        read.post("/v0/sql", data={"q": query}),
        read.post("/v0/sql", content=query),
        read.post("/v0/sql", content=query, headers={"Content-Type": "application/x-www-form-urlencoded"}),
        read.post("/v0/sql", json={"q": query}),
    ]

    assert [answer.json()["data"] for answer in answers] == [[[1]]] * 6
    assert read.get("/v0/sql", params={"q": "SELECT 1 AS a"}).json()["data"] == [{"a": 1}]
    assert read.get("/v0/sql", params={"q": "SELECT 1 AS a FORMAT CSV"}).text == "1\n"
    assert read.get("/v0/sql", params={"q": "SELECT 1 AS a FORMAT JSONEachRow"}).json() == {"a": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"content": b""},
        {"json": {"q": ""}},
        {"json": ["q"]},
        {"content": b"\xff"},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
    ],
)
def test_sql_without_a_query_is_400(read: httpx.Client, options: dict[str, Any]) -> None:
    answer = read.post("/v0/sql", **options)

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_read_token_can_neither_write_nor_read_system_tables(read: httpx.Client) -> None:
    for query in ("SELECT * FROM file('/etc/hostname')", "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT * FROM system.one"):
        assert read.post("/v0/sql", content=query).status_code == 403


def test_a_data_source_describes_itself(read: httpx.Client) -> None:
    """So a check can compare its columns with what is sent."""
    answer = read.get("/v0/datasources/events").json()

    columns = {column["name"]: column for column in answer["columns"]}
    assert columns["user"] == {
        "name": "user",
        "type": "LowCardinality(String)",
        "nullable": False,
        "default_value": "DEFAULT 'unknown'",
        "jsonpath": "$.who.user",
    }
    assert answer["engine"]["engine_sorting_key"] == "toStartOfHour(at), event_id"
    assert read.get("/v0/datasources/nowhere").status_code == 404


def test_the_log_has_what_tests_need(tinybird: Sandbox, append: httpx.Client) -> None:
    """Rows, bytes, hash, status and times of each request, in order."""
    body = json.dumps(event()).encode() + b'\n{"event_id": "no time"}'
    assert append.post("/v0/events?name=events", content=body).status_code == 202

    state = tinybird.state()
    [entry] = state["log"]

    assert (entry["datasource"], entry["rows"], entry["status"]) == ("events", 2, 202)
    assert (entry["successful_rows"], entry["quarantined_rows"]) == (1, 1)
    assert (entry["body_bytes"], entry["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert entry["time"] <= entry["written_at"] <= entry["answered_at"] <= state["time"]
    assert (state["requests"], state["statuses"]) == (1, {"202": 1})
    assert state["tables"]["events"] == state["tables"]["events_quarantine"] == 1
    assert tinybird.state(since=entry["id"])["log"] == []


def test_reset_restores_the_initial_state(tinybird: Sandbox, append: httpx.Client) -> None:
    """Rows, quarantine, faults, log and replaced schemas."""
    send(append, event(), {"event_id": "no time"})
    tinybird.fault(outage=True)
    tinybird.replace_datasource("other", "SCHEMA >\n    `x` String `json:$.x`\n")

    tinybird.reset()

    state = tinybird.state()
    assert set(state["tables"].values()) == {0}
    assert (state["requests"], state["faults"], state["log"]) == (0, [], [])
    assert send(append, {"id": "x"}, to="other").json() == {"successful_rows": 1, "quarantined_rows": 0}


def test_a_schema_can_be_replaced(tinybird: Sandbox, append: httpx.Client) -> None:
    """A dropped column, a narrowed type, a renamed path: rows are written by the new one, into an empty table."""
    assert send(append, {"id": "x", "n": 300}, to="other").status_code == 200

    tinybird.replace_datasource("other", "SCHEMA >\n    `n` UInt8 `json:$.m` DEFAULT 7\n")

    assert tinybird.sql("SELECT * FROM other") == []
    assert send(append, {"id": "x", "n": 3}, {"m": 300}, to="other").json()["successful_rows"] == 2
    assert tinybird.sql("SELECT n FROM other ORDER BY n") == [{"n": 7}, {"n": 44}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere", "SCHEMA >\n    a String\n", "the name of one"),
        ("other", "SCHEMA >\n    a\n", "other.datasource:2: column a has no type"),
        ("other", "SCHEMA >\n    a Strin\n", "Strin"),
        ("other", "SCHEMA >\n    a Decimal `json:$.a` x\n", "unexpected x"),
    ],
)
def test_a_wrong_schema_keeps_the_old_one(
    tinybird: Sandbox, append: httpx.Client, name: str, text: str, message: str
) -> None:
    with pytest.raises(SandboxError, match=message):
        tinybird.replace_datasource(name, text)

    assert send(append, {"id": "x"}, to="other").json() == {"successful_rows": 1, "quarantined_rows": 0}


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "fault", {"outtage": True}),
        ("DELETE", "fault?id=x", None),
        ("GET", "state?since=x", None),
        ("POST", "tables", {"datasource": "other"}),
        ("POST", "sql", {}),
        ("POST", "sql", {"q": "SELEC"}),
        ("POST", "fault", []),
    ],
)
def test_control_names_what_is_wrong(tinybird: Sandbox, method: str, path: str, content: object) -> None:
    headers = {"Authorization": f"Bearer {tinybird.admin_token}"}

    answer = httpx.request(method, f"{tinybird.url}/_sandbox/{path}", json=content, headers=headers, trust_env=False)

    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["state", "reset", "fault", "tables", "sql"])
def test_control_needs_the_admin_token(tinybird: Sandbox, read: httpx.Client, path: str) -> None:
    method = "GET" if path == "state" else "POST"

    assert read.request(method, f"/_sandbox/{path}", json={}).status_code == 403
    assert httpx.request(method, f"{tinybird.url}/_sandbox/{path}", json={}, trust_env=False).status_code == 403


def test_control_needs_json(tinybird: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {tinybird.admin_token}"}

    answer = httpx.post(f"{tinybird.url}/_sandbox/fault", content=b"{", headers=headers, trust_env=False)

    assert (answer.status_code, answer.json()["error"][:26]) == (400, "the body is not valid JSON")


def test_control_answers_in_an_outage(tinybird: Sandbox) -> None:
    tinybird.fault(outage=True)
    tinybird.fault(read_quota=0)

    assert tinybird.sql("SELECT 1 AS n") == [{"n": 1}]
    assert len(tinybird.state()["faults"]) == 2


@pytest.fixture(scope="module")
def strict_process(project: Path) -> Iterator[Sandbox]:
    """A sandbox with no setting at its default."""
    with Sandbox(
        project=project,
        append_token="a",
        read_token="r",
        admin_token="z",
        requests_per_second=50,
        max_body_bytes=500,
    ) as sandbox:
        yield sandbox


@pytest.fixture
def strict(strict_process: Sandbox) -> Iterator[httpx.Client]:
    """A client with all rights on it; it is emptied first."""
    strict_process.reset()
    headers = {"Authorization": "Bearer z"}
    with httpx.Client(base_url=strict_process.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


def test_the_settings_of_limits_apply(strict: httpx.Client) -> None:
    """Body and requests."""
    assert send(strict, event("x" * 500)).status_code == 413
    assert send(strict, event()).headers["X-RateLimit-Limit"] == "50"
