"""POST /v0/datasources/<name>/delete: only with the admin token, only rows that match the condition."""

from __future__ import annotations

import httpx
import pytest
from birdfeed_sandbox import Sandbox

CONDITION = "id IN ('a', 'o\\'b')"


def client(sandbox: Sandbox, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=sandbox.url, headers=headers, timeout=30, trust_env=False)


def test_matching_rows_are_deleted(tinybird: Sandbox, append: httpx.Client) -> None:
    """A dry run counts; the delete answers with a job, which says when it is done. Quarantines have the same API."""
    lines = b'{"id": "a"}\n{"id": "o\'b"}\n{"id": "c"}\n{"id": "a", "n": "none"}'
    answer = append.post("/v0/events?name=other&wait=true", content=lines)
    assert answer.json() == {"successful_rows": 3, "quarantined_rows": 1}

    with client(tinybird, tinybird.admin_token) as admin:
        form = {"delete_condition": CONDITION}
        dry = admin.post("/v0/datasources/other/delete", data={**form, "dry_run": "true"})
        before = tinybird.sql("SELECT count() AS n FROM other")
        job = admin.post("/v0/datasources/other/delete", data=form)
        state = admin.get(f"/v0/jobs/{job.json()['id']}")
        aside = admin.post("/v0/datasources/other_quarantine/delete", data=form)

    assert (dry.json(), before) == ({"rows_to_be_deleted": 2}, [{"n": 3}])
    assert (job.status_code, job.json()["status"]) == (201, "waiting")
    assert (state.json()["status"], state.json()["rows_affected"]) == ("done", 2)
    assert aside.status_code == 201
    assert tinybird.sql("SELECT id FROM other") == [{"id": "c"}]
    assert tinybird.sql("SELECT count() AS n FROM other_quarantine") == [{"n": 0}]


def test_other_rows_are_unchanged(tinybird: Sandbox, append: httpx.Client) -> None:
    """In many partitions, written twice, and where the condition is NULL, which is not true."""
    for year in (2001, 2002, 2002):
        lines = (
            f'{{"event_id": "{year}-{n}", "at": "{year}-{n:02}-01 00:00:00", "tags": ["x"]}}' for n in range(1, 13)
        )
        assert append.post("/v0/events?name=events&wait=true", content="\n".join(lines)).json()["successful_rows"] == 12
    every = "SELECT * FROM events ORDER BY ALL"
    before = tinybird.sql(every)
    with client(tinybird, tinybird.admin_token) as admin:
        for condition in ("NULL", "note = 'x'", "event_id = '2001-7'"):
            answer = admin.post("/v0/datasources/events/delete", data={"delete_condition": condition})
            assert answer.status_code == 201, answer.text

    assert len(before) in (24, 36)  # the engine may have merged them
    stay = [row for row in before if row["event_id"] != "2001-7"]
    assert {str(row) for row in tinybird.sql(every)} == {str(row) for row in stay}
    assert len(tinybird.sql("SELECT * FROM events FINAL")) == 23


@pytest.mark.parametrize(
    ("name", "condition", "status"),
    [
        ("other", "", 400),
        ("nothing", "1", 404),
        ("other", "1) OR (file('/etc/hostname') != ''", 403),
        ("other", "id IN (SELECT name FROM system.users)", 403),
        ("other", "1); DROP TABLE other; --", 400),
        ("other", "1) SETTINGS mutations_sync = 0, allow_ddl = 1 --", 403),
        ("other", "1) UNION ALL SELECT (1", 400),
        ("other", "no_such_column", 400),
    ],
)
def test_a_condition_is_only_a_condition(tinybird: Sandbox, name: str, condition: str, status: int) -> None:
    """It can't read other tables, or be another statement; a missing table is an error."""
    with client(tinybird, tinybird.admin_token) as admin:
        answer = admin.post(f"/v0/datasources/{name}/delete", data={"delete_condition": condition})

    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_only_the_admin_token_deletes(tinybird: Sandbox, append: httpx.Client, read: httpx.Client) -> None:
    """And only it reads the jobs."""
    for caller in (append, read):
        assert caller.post("/v0/datasources/other/delete", data={"delete_condition": "1"}).status_code == 403
        assert caller.get("/v0/jobs/x").status_code == 403
    with client(tinybird, tinybird.admin_token) as admin:
        assert admin.get("/v0/jobs/x").status_code == 404
