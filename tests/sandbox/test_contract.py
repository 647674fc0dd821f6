"""The behaviour of Tinybird on which birdfeed relies, tested on the sandbox and, if one is configured, on a real
workspace.

To test a real one, create the data source of project/datasources/events.datasource there and set

    TINYBIRD_CONTRACT_HOST         https://api.<region>.tinybird.co
    TINYBIRD_CONTRACT_TOKEN        a token that may append to it
    TINYBIRD_CONTRACT_READ_TOKEN   a token that may read it and its quarantine
    TINYBIRD_CONTRACT_DATASOURCE   its name there

Nothing is deleted there: each test has its own event ids.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import zstandard
from birdfeed_sandbox import Sandbox

from tests.support.wait import pause

#: Seconds until a written row must be visible.
_SEEN_WITHIN = 60.0

_SETTINGS = ("HOST", "TOKEN", "READ_TOKEN", "DATASOURCE")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Tinybird to test."""

    url: str
    append_token: str
    read_token: str
    datasource: str

    def send(self, body: bytes, *, wait: bool = True, **options: Any) -> httpx.Response:
        """POST /v0/events."""
        params = {"name": self.datasource, **({"wait": "true"} if wait else {})} | options.pop("params", {})
        headers = {"Authorization": f"Bearer {self.append_token}"} | options.pop("headers", {})
        return httpx.post(f"{self.url}/v0/events", content=body, params=params, headers=headers, timeout=90)

    def sql(self, query: str, *, token: str | None = None) -> httpx.Response:
        """POST /v0/sql."""
        headers = {"Authorization": f"Bearer {token if token is not None else self.read_token}"}
        return httpx.post(f"{self.url}/v0/sql", data={"q": query}, headers=headers, timeout=90)

    def rows(self, event_id: str, *, columns: str = "*", quarantined: bool = False) -> list[dict[str, Any]]:
        """The rows of an event, waiting until there is one."""
        table = self.datasource + ("_quarantine" if quarantined else "")
        deadline = time.monotonic() + _SEEN_WITHIN
        while True:
            answer = self.sql(f"SELECT {columns} FROM {table} WHERE event_id = '{event_id}' FORMAT JSON")
            assert answer.status_code == 200, answer.text
            rows: list[dict[str, Any]] = answer.json()["data"]
            if rows or time.monotonic() > deadline:
                return rows
            pause(0.5)

    def count(self, event_id: str) -> int:
        """How many rows an event has at present, in the table and in quarantine."""
        query = f"SELECT count() AS n FROM {{}} WHERE event_id = '{event_id}' FORMAT JSON"
        answers = [self.sql(query.format(self.datasource + suffix)) for suffix in ("", "_quarantine")]
        return sum(int(answer.json()["data"][0]["n"]) for answer in answers)


_FOUND = {name: os.environ.get(f"TINYBIRD_CONTRACT_{name}", "") for name in _SETTINGS}
_MISSING = [f"TINYBIRD_CONTRACT_{name}" for name, value in _FOUND.items() if not value]


@pytest.fixture(params=["sandbox"] if _MISSING else ["sandbox", "workspace"])
def target(request: pytest.FixtureRequest) -> Target:
    """The sandbox, and the workspace that the environment variables name."""
    if request.param == "workspace":
        return Target(
            url=_FOUND["HOST"].rstrip("/"),
            append_token=_FOUND["TOKEN"],
            read_token=_FOUND["READ_TOKEN"],
            datasource=_FOUND["DATASOURCE"],
        )
    sandbox: Sandbox = request.getfixturevalue("tinybird")
    return Target(
        url=sandbox.url,
        append_token=sandbox.append_token,
        read_token=sandbox.read_token,
        datasource="events",
    )


@pytest.mark.skipif(bool(_MISSING), reason=f"no real workspace to ask: {', '.join(_MISSING)} not set")
def test_a_real_workspace_is_tested_too() -> None:
    """Shows in the report whether this suite ran on a real workspace."""
    assert _FOUND["HOST"].startswith("https://")


def row(**values: Any) -> tuple[str, bytes]:
    """The id and the line of a valid event with a new id and these values."""
    event_id = str(uuid4())
    return event_id, json.dumps({"event_id": event_id, "at": "2026-11-01T10:00:00.125Z"} | values).encode()


def test_a_write_with_wait_is_200_and_counted(target: Target) -> None:
    """Two good rows and wait=true: 200, both counted, both written."""
    first, line_1 = row()
    second, line_2 = row()

    answer = target.send(line_1 + b"\n" + line_2 + b"\n")

    assert (answer.status_code, answer.json()) == (200, {"successful_rows": 2, "quarantined_rows": 0})
    assert len(target.rows(first)) == len(target.rows(second)) == 1


def test_a_write_without_wait_is_202_in_the_same_shape(target: Target) -> None:
    """Without wait the answer is 202, which does not promise the write, in the same JSON."""
    _, line = row()

    answer = target.send(line, wait=False)

    assert (answer.status_code, answer.json()) == (202, {"successful_rows": 1, "quarantined_rows": 0})


def test_answers_carry_the_rate_limit(target: Target) -> None:
    """Limit, Remaining and Reset are whole numbers, Reset counted from now; Retry-After isn't there on success."""
    _, line = row()

    headers = target.send(line).headers

    assert int(headers["X-RateLimit-Limit"]) > 0
    assert 0 <= int(headers["X-RateLimit-Remaining"]) <= int(headers["X-RateLimit-Limit"])
    assert 0 <= int(headers["X-RateLimit-Reset"]) < 100_000
    assert "Retry-After" not in headers


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_are_accepted(target: Target, encoding: str) -> None:
    """gzip and zstd, named in Content-Encoding."""
    event_id, line = row()
    body = gzip.compress(line) if encoding == "gzip" else zstandard.ZstdCompressor().compress(line)

    answer = target.send(body, headers={"Content-Encoding": encoding})

    assert answer.status_code == 200, answer.text
    assert len(target.rows(event_id)) == 1


def test_no_name_is_400(target: Target) -> None:
    """The data source's name is mandatory."""
    answer = target.send(row()[1], params={"name": ""})

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_one_unparsable_line_is_400_and_nothing_is_written(target: Target) -> None:
    """The valid lines of the request aren't written either."""
    event_id, line = row()

    answer = target.send(line + b'\n{"event_id": broken\n')

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert target.count(event_id) == 0


def test_a_wrong_token_is_403_and_repeated_in_the_body(target: Target) -> None:
    """A client that logs the body would log the token."""
    event_id, line = row()

    answer = target.send(line, headers={"Authorization": "Bearer p.not-a-token"})

    assert answer.status_code == 403
    assert "p.not-a-token" in answer.json()["error"]
    assert target.count(event_id) == 0


def test_the_read_token_may_not_append(target: Target) -> None:
    """Each token has its own scope."""
    event_id, line = row()

    answer = target.send(line, headers={"Authorization": f"Bearer {target.read_token}"})

    assert answer.status_code == 403
    assert target.count(event_id) == 0


def test_a_missing_data_source_is_404(target: Target) -> None:
    """As after a typing error in the settings."""
    answer = target.send(row()[1], params={"name": f"no_such_{uuid4().hex}"})

    assert answer.status_code in (403, 404)  # 403 where the token's scope is this one data source


def test_fields_outside_the_schema_are_ignored(target: Target) -> None:
    """New fields may be sent before the schema knows them."""
    event_id, line = row(unheard_of={"a": [1, 2]})

    assert target.send(line).json() == {"successful_rows": 1, "quarantined_rows": 0}
    assert len(target.rows(event_id)) == 1


def test_values_arrive_as_they_were_sent(target: Target) -> None:
    """Nested paths, arrays, an object in a String column, exact decimals sent as text, times to the millisecond."""
    event_id, line = row(
        second="2026-11-01T10:00:01.999999Z",
        who={"user": "ann", "age": 7},
        usage={"tokens": 65_535},
        cost="12345678901234.123456789012",
        ok=True,
        note="n",
        level=3,
        tags=["a", "b"],
        items=[{"name": "x"}, {"name": "y"}],
        messages=[{"role": "user"}],
    )

    assert target.send(line).json() == {"successful_rows": 1, "quarantined_rows": 0}
    [found] = target.rows(event_id, columns="*, toString(cost) AS cost_text, toString(at) AS at_text")

    assert found["at_text"] == "2026-11-01 10:00:00.125"
    assert found["second"] == "2026-11-01 10:00:01"
    assert (found["user"], json.loads(found["who"])) == ("ann", {"user": "ann", "age": 7})
    assert found["cost_text"] == "12345678901234.123456789012"
    assert (found["tokens"], found["ok"], found["note"], found["level"]) == (65_535, True, "n", 3)
    assert (found["tags"], found["names"], found["messages"]) == (["a", "b"], ["x", "y"], [{"role": "user"}])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"usage": None, "who": None, "level": None, "second": None},
        {"usage": {"tokens": None}, "who": {"user": None}},
    ],
    ids=["missing", "null", "null within"],
)
def test_a_missing_or_null_value_is_the_default(target: Target, values: dict[str, Any]) -> None:
    """Also a default computed from another column, and that of a Nullable column."""
    event_id, line = row(**values)

    assert target.send(line).json() == {"successful_rows": 1, "quarantined_rows": 0}
    [found] = target.rows(event_id)

    expected = {"user": "unknown", "tokens": 0, "level": 7, "note": None, "second": "2026-11-01 10:00:00"}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"at": None}, "at"),
        ({"usage": {"tokens": "12"}}, "tokens"),
        ({"ratio": "0.5"}, "ratio"),
        ({"at": "yesterday"}, "at"),
        ({"tags": "a"}, "tags"),
        ({"note": "\ud800"}, "note"),
    ],
    ids=[
        "missing without default",
        "text for UInt16",
        "text for Float32",
        "no time",
        "no array",
        "lone surrogate",
    ],
)
def test_a_row_that_breaks_a_column_goes_to_quarantine(target: Target, values: dict[str, Any], column: str) -> None:
    """It is answered with 200, counted apart, and found by its id with the column and a reason.

    The other row is written.
    """
    bad, bad_line = row(**values)
    good, good_line = row()

    answer = target.send(bad_line + b"\n" + good_line)

    assert (answer.status_code, answer.json()) == (200, {"successful_rows": 1, "quarantined_rows": 1})
    [found] = target.rows(bad, quarantined=True)
    assert column in found["c__error_column"]
    assert len(found["c__error"]) == len(found["c__error_column"])
    assert all(found["c__error"])
    assert found["insertion_date"]
    assert len(target.rows(good)) == 1


def test_sql_answers_with_metadata_rows_and_statistics(target: Target) -> None:
    """FORMAT JSON."""
    answer = target.sql("SELECT toUInt64(7) AS n, 'x' AS s FORMAT JSON").json()

    assert answer["meta"] == [{"name": "n", "type": "UInt64"}, {"name": "s", "type": "String"}]
    assert (answer["data"], answer["rows"]) == ([{"n": 7, "s": "x"}], 1)
    assert {"elapsed", "rows_read", "bytes_read"} <= set(answer["statistics"])


def test_sql_accepts_get(target: Target) -> None:
    """With another format, too."""
    params = {"q": "SELECT 1 AS a, 'x' AS b FORMAT CSVWithNames"}
    answer = httpx.get(
        f"{target.url}/v0/sql",
        params=params,
        headers={"Authorization": f"Bearer {target.read_token}"},
        timeout=90,
    )

    assert answer.status_code == 200
    assert answer.text == '"a","b"\n1,"x"\n'


def test_sql_needs_a_token_that_may_read(target: Target) -> None:
    """The token that may append is not enough."""
    query = f"SELECT count() FROM {target.datasource}"

    assert target.sql(query, token="p.not-a-token").status_code == 403
    assert target.sql(query, token=target.append_token).status_code == 403


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT nope FROM {}", "SELECT * FROM {}_nowhere"])
def test_a_wrong_query_has_an_error_text(target: Target, query: str) -> None:
    """Under the key `error`."""
    answer = target.sql(query.format(target.datasource))

    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]


@pytest.mark.parametrize("query", ["INSERT INTO {} SELECT * FROM {}", "TRUNCATE TABLE {}", "DROP TABLE {}"])
def test_sql_writes_nothing(target: Target, query: str) -> None:
    """With either token."""
    answer = target.sql(query.replace("{}", target.datasource))

    assert 400 <= answer.status_code < 500


def test_a_query_text_over_256_kb_is_refused(target: Target) -> None:
    """An IN list of 10,000 UUIDs is too long; one of 6,000 is not."""
    ids = [str(uuid4()) for _ in range(10_000)]
    query = f"SELECT count() AS n FROM {target.datasource} WHERE event_id IN ({{}}) FORMAT JSON"

    too_long = target.sql(query.format(",".join(f"'{each}'" for each in ids)))
    fits = target.sql(query.format(",".join(f"'{each}'" for each in ids[:6_000])))

    assert too_long.status_code == 400
    assert "max_query_size" in too_long.json()["error"]
    assert (fits.status_code, fits.json()["data"]) == (200, [{"n": 0}])
