"""The llm_events of Tinybird's LLM template accepts every row birdfeed sends; and its rows can be migrated."""

import json
import random
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.datafiles.datasource import parse_datasource
from birdfeed_sandbox.store.ddl import create_table
from birdfeed_schemas.events import TextGeneration
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.lookup import OURS, TEMPLATES, chunks, find, identity_of, written_sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support import rows as made
from tests.support.existing import columns, existing_datasource
from tests.support.repository import ROOT
from tests.support.stored import post

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
Rows = Sequence[Mapping[str, Any]]


@pytest.fixture
def existing(store: Sandbox) -> Sandbox:
    """A store whose llm_events is the existing one."""
    store.replace_datasource("llm_events", existing_datasource())
    return store


def send(store: Sandbox, rows: Rows) -> dict[str, int]:
    return post(store, "llm_events", rows)


def stored(store: Sandbox) -> dict[str, dict[str, Any]]:
    """Every row by its id."""
    return {row["id"]: row for row in store.sql("SELECT * FROM llm_events")}


def at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a row at a path; None if there is none."""
    value: Any = row
    for step in path.removeprefix("$.").removesuffix("[:]").split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def expected(row: Mapping[str, Any]) -> dict[str, Any]:
    """What each column of the existing table must contain for a row: the value at its path, or its default."""
    said: dict[str, Any] = {}
    for column in columns():
        name, kind = str(column["column"]), str(column["type"])
        value = at(row, str(column["json_path"]))
        if value is None:
            assert column["default"] is not None, f"{name} has no default and the row no value"
            said[name] = json.loads(column["default"].replace("'", '"'))
        elif kind == "DateTime":
            said[name] = value[:19].replace("T", " ")
        elif kind == "Float32":
            said[name] = pytest.approx(struct.unpack("f", struct.pack("f", value))[0], rel=1e-6)
        else:
            said[name] = value
    return said


def as_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was read, the objects in text columns parsed."""
    parsed = {name: json.loads(row[name]) for name in ("response", "proxy_metadata") if row[name]}
    return {**row, **parsed, "prompt_tokens": int(row["prompt_tokens"])}


def check(store: Sandbox, rows: Rows) -> None:
    """All accepted, and every column equal."""
    assert send(store, rows) == {"successful_rows": len(rows), "quarantined_rows": 0}
    found = stored(store)
    for row in rows:
        assert as_stored(found[row["id"]]) == expected(row)


def test_generated_rows_are_stored_with_equal_values(existing: Sandbox) -> None:
    """Every kind that the row builders make."""
    dice = random.Random(1)
    moments = [NOON - timedelta(seconds=dice.randrange(10**6)) for _ in range(800)]

    check(existing, made.sample(dice, "text_generation", moments))


def test_recorded_usages_are_stored(existing: Sandbox) -> None:
    """SDKs' own usage objects and the cost cases, priced by the worker's code."""
    from birdfeed_worker.pricing.usage.normalise import normalise_usage

    dice = random.Random(2)
    recorded = json.loads((ROOT / "tests" / "data" / "cost_cases.json").read_text())
    sent = []
    for case in _usages(recorded):
        row = made.built(dice, "text_generation", NOON, {"model": "m", "usage": case})
        tokens = normalise_usage(case).tokens
        if tokens.prompt + tokens.completion > 65_535:
            continue  # named by `tinybird check`: see the test of narrow columns
        row["response"]["usage"] = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.prompt + tokens.completion,
        }
        sent.append(row)
    assert len(sent) > 20

    check(existing, sent)


def _usages(value: Any) -> list[Any]:
    """Every value under a key `usage`, however deep."""
    if isinstance(value, list):
        return [one for part in value for one in _usages(part)]
    if isinstance(value, dict):
        mine = [value["usage"]] if isinstance(value.get("usage"), dict) else []
        return mine + [one for key, part in value.items() if key != "usage" for one in _usages(part)]
    return []


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=700)
datas = st.fixed_dictionaries(
    {"model": texts.filter(bool)},
    optional={
        **dict.fromkeys(("user", "username", "provider", "environment", "chat_id", "request_id", "referrer"), texts),
        "error": texts | st.fixed_dictionaries({"message": texts, "code": st.integers() | texts}),
        "start_time": st.integers(-(10**13), 10**13) | st.floats(allow_nan=False) | st.datetimes().map(str),
        "end_time": st.integers(0, 10**13),
        "duration": st.floats(0, 1e12),
        "moderation": st.dictionaries(
            texts, st.booleans() | st.dictionaries(texts, st.booleans() | st.floats() | texts)
        ),
        "stream": st.booleans(),
    },
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(datas, min_size=1, max_size=40))
def test_whatever_a_handler_sends_is_stored(existing: Sandbox, data: list[dict[str, Any]]) -> None:
    """Any text and any number that a valid event can contain."""
    dice = random.Random()  # the store is not emptied between examples: their ids must differ
    valid = []
    for one in data:
        try:
            TextGeneration.model_validate(one)
        except ValidationError:
            continue
        valid.append(made.built(dice, "text_generation", NOON, one))
    if valid:
        check(existing, valid)


def test_a_count_too_large_is_accepted_and_wrong(existing: Sandbox) -> None:
    """It isn't quarantined, and the value is wrong: that is why the check names UInt16."""
    row = made.built(random.Random(3), "text_generation", NOON, {"model": "m"})
    row["response"]["usage"]["prompt_tokens"] = 70_000

    assert send(existing, [row]) == {"successful_rows": 1, "quarantined_rows": 0}
    assert int(stored(existing)[row["id"]]["prompt_tokens"]) == 4_464


def reader(store: Sandbox) -> Tinybird:
    return Tinybird(store.url, store.append_token, store.read_token)


@pytest.mark.parametrize("ours", [True, False], ids=["birdfeed's", "existing"])
def test_verification_finds_stored_rows(store: Sandbox, ours: bool) -> None:
    """Short requests, long ones, clamped starts, quarantined rows; but no row that was never sent."""
    if not ours:
        store.replace_datasource("llm_events", existing_datasource())
    dice = random.Random(4)
    day = timedelta(days=1).total_seconds() * 1000
    sent = []
    for nth, duration in enumerate([0.0, 10.0, 59 * 60_000, 61 * 60_000, 3 * day, 6.9 * day, 300 * day] * 20):
        data: dict[str, Any] = {"model": "m", "duration": duration}
        if nth % 5 == 0:
            data["end_time"] = (NOON - timedelta(days=dice.randrange(7))).isoformat()
        if nth % 7 == 0:
            data["start_time"] = (NOON + timedelta(minutes=50)).isoformat()
        sent.append(made.built(dice, "text_generation", NOON + timedelta(seconds=nth), data))
    aside, lost = sent[::10], [made.built(dice, "text_generation", NOON, {"model": "m"}) for _ in range(30)]
    for row in aside:
        row["stream"] = "perhaps"
    send(store, sent)
    asked = [(row["event_id"], datetime.fromisoformat(row["occurred_at"])) for row in (*sent, *lost)]

    with reader(store) as tinybird:
        found = find(tinybird, "llm_events", asked)
        assert (identity_of(tinybird, "llm_events") is TEMPLATES) is not ours

    assert found.written == {row["event_id"] for row in sent} - {row["event_id"] for row in aside}
    assert set(found.quarantined) == {row["event_id"] for row in aside}
    assert all("stream" in why for why in found.quarantined.values())


@pytest.mark.parametrize("ours", [True, False], ids=["birdfeed's", "existing"])
def test_ids_with_the_same_end_are_distinguished(store: Sandbox, ours: bool) -> None:
    """The query has only the ends of ids; whole ids in the answer are compared. Also in quarantine."""
    if not ours:
        store.replace_datasource("llm_events", existing_datasource())
    dice = random.Random(8)
    rows = [made.built(dice, "text_generation", NOON + timedelta(seconds=nth), {"model": "m"}) for nth in range(4)]
    ids = [f"{row['event_id'][:-12]}0123456789ab" for row in rows]
    for row, event_id in zip(rows, ids, strict=True):
        row["event_id"] = row["id"] = event_id
    rows[1]["stream"] = "perhaps"  # no Bool
    send(store, rows[:3])
    # The third is stored too, between the first and the fourth in time, and isn't queried.
    asked = [(ids[nth], NOON + timedelta(seconds=nth)) for nth in (0, 1, 3)]

    with reader(store) as tinybird:
        found = find(tinybird, "llm_events", asked)

    assert (set(found.written), set(found.quarantined)) == ({ids[0]}, {ids[1]})


def test_a_full_request_is_one_query(store: Sandbox) -> None:
    """10,000 events fit the query's 256 kB; queries are few in a plan with 1,000 a day."""
    dice = random.Random(9)
    asked = [(made.event_id(dice, NOON), NOON) for _ in range(10_000)]
    store.clear_faults()
    before = store.state()["requests"]

    with reader(store) as tinybird:
        assert find(tinybird, "llm_events", asked).written == set()

    assert store.state()["requests"] - before == 3  # the columns, the table, the quarantine


def test_an_exchanged_table_is_noticed(existing: Sandbox) -> None:
    """Workers keep running during the migration: after the first failed query they read the columns again."""
    row = made.built(random.Random(5), "text_generation", NOON, {"model": "m"})
    asked = [(row["event_id"], NOON)]
    with reader(existing) as tinybird:
        assert find(tinybird, "llm_events", asked).written == set()
        shipped = (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text()
        existing.replace_datasource("llm_events", shipped)
        send(existing, [row])
        with pytest.raises(QueryError, match="`id`"):
            find(tinybird, "llm_events", asked)
        assert find(tinybird, "llm_events", asked).written == {row["event_id"]}


def test_a_failed_query_is_sent_in_another_form_next_time(store: Sandbox) -> None:
    """A failed query gives no result, the columns are read again, and without ids there is no query."""
    row = made.built(random.Random(7), "text_generation", NOON, {"model": "m"})
    asked = [(row["event_id"], NOON)]
    with reader(store) as tinybird:
        assert find(tinybird, "llm_events", asked).written == set()
        store.replace_datasource("llm_events", existing_datasource())
        send(store, [row])
        with pytest.raises(QueryError, match="event_id"):
            find(tinybird, "llm_events", asked)
        assert find(tinybird, "llm_events", asked).written == {row["event_id"]}

        tinybird.forget_columns("llm_events")
        store.replace_datasource("llm_events", "SCHEMA >\n    `user` String `json:$.user`\n")
        with pytest.raises(QueryError, match="neither event_id and occurred_at nor id and timestamp"):
            find(tinybird, "llm_events", asked)


def old_row(dice: random.Random, nth: int) -> dict[str, Any]:
    """A row as the template's own producer writes it."""
    failed = dice.random() < 0.2
    start = NOON - timedelta(seconds=nth)
    usage = {"prompt_tokens": dice.randrange(60_000), "completion_tokens": dice.randrange(3_000)}
    return {
        "start_time": start.isoformat(),
        "end_time": (start + timedelta(seconds=3)).isoformat(),
        "message_id": f"msg-{nth}",
        "id": "" if nth % 4 == 0 else f"chatcmpl-{nth // 4}",  # three requests of one id, seconds apart
        "model": dice.choice(("gpt-4o", "claude")),
        "user": dice.choice(("ann", "bob")),
        "provider": "openai",
        "messages": [{"role": "user", "content": "a prompt"}],
        "duration": dice.uniform(0, 9_000),
        "cost": dice.choice((0, 0.0003, 1.5e-7, 12.25)),
        "cache_hit": nth % 9 == 0,
        "exception": "Timeout" if failed else "",
        "standard_logging_object_status": "failure" if failed else "success",
        "proxy_metadata": {"organization": "o", "project": "p", "environment": "production", "chat_id": "c"},
        "response": {
            "id": f"r-{nth}",
            "choices": ["an answer"],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        },
    }


def forward_query() -> str:
    [block] = re.findall(r"FORWARD_QUERY >\n(.*?)```", (ROOT / "docs" / "how-to" / "migrate.md").read_text(), re.DOTALL)
    return str(block)


def test_the_migration_copies_every_old_row(existing: Sandbox) -> None:
    """The FORWARD_QUERY of docs/how-to/migrate.md, on rows in the old format and on birdfeed's own rows in the old
    table.
    """
    dice = random.Random(6)
    old = [old_row(dice, nth) for nth in range(400)]
    own = made.sample(dice, "text_generation", [NOON - timedelta(seconds=nth) for nth in range(50)])
    assert send(existing, old + own)["quarantined_rows"] == 0
    send(existing, old[:40])  # written twice
    shipped = parse_datasource(
        (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text(), name="migrated"
    )
    existing.sql("DROP TABLE IF EXISTS migrated SYNC")
    existing.sql(create_table(shipped))
    existing.sql(f"INSERT INTO migrated {forward_query()} FROM llm_events")

    rows = existing.sql("SELECT *, toString(cost) AS usd FROM migrated FINAL")
    with reader(existing) as tinybird:
        asked = [(row["event_id"], datetime.fromisoformat(row["occurred_at"])) for row in own]
        found = {
            one
            for chunk in chunks(asked)
            for one in _ids(tinybird.query(written_sql("migrated", OURS, chunk, *OURS.windows[0])))
        }
    existing.sql("DROP TABLE migrated SYNC")
    assert found == {row["event_id"] for row in own}
    assert len(rows) == 450
    assert len({row["event_id"] for row in rows}) == 450
    by_message = {row["request_id"]: row for row in rows}
    for before in old:
        after = by_message[before["message_id"]]
        usage = before["response"]["usage"]
        assert after["event_id"].startswith(f"{before['id'] or 'old'}-")
        assert float(after["usd"]) == before["cost"]
        assert (int(after["prompt_text_tokens"]), int(after["completion_text_tokens"])) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert (after["response_status"] == "error") == bool(before["exception"])
        assert after["occurred_at"] == before["start_time"][:19].replace("T", " ") + ".000"
        assert (after["organization"], after["environment"], after["user"]) == ("o", "production", before["user"])


def _ids(rows: Rows) -> set[str]:
    return {row["event_id"] for row in rows}


def test_the_forward_query_names_the_columns_in_their_order() -> None:
    """INSERT ... SELECT assigns by position: one more or one less column would shift all later ones."""
    shipped = (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text()
    selected = re.findall(r"(?:AS )?(\w+),?\n", re.sub(r"\([^()]*\n[^()]*\)", "", forward_query()))
    names = [column.name for column in parse_datasource(shipped, name="x").columns]

    assert [name for name in selected if name in names] == names
