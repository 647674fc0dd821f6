"""Every endpoint on generated rows, delivered twice, repriced and out of order, compared with Python's answers."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import httpx
import orjson
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.datafiles.project import load_project, packaged_project

from tests.store import reference
from tests.store.reference import Question, day
from tests.support import rows as made

START = datetime(2026, 10, 23, 20, tzinfo=UTC)
HOURS = 70
Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def stored(store_process: Sandbox) -> Rows:
    """Rows of both tables in the store, merges off; returns them as sent, in order, every version."""
    dice = random.Random(20_261_024)
    store_process.reset()
    sent: list[dict[str, Any]] = []
    for table, event_type, amount in (
        ("llm_events", "text_generation", 900),
        ("image_events", "image_generation", 500),
    ):
        store_process.sql(f"SYSTEM STOP MERGES {table}")
        moments = [
            START + timedelta(seconds=dice.randrange(HOURS * 3600), milliseconds=dice.randrange(1000))
            for _ in range(amount)
        ]
        rows = made.sample(dice, event_type, moments)
        again = [dict(row) for row in rows[:60]]  # a batch resent as it was
        later = [made.repriced(dice, row, "2026-11-02T00:00:00.000001Z") for row in rows[40:200]]
        last = [made.repriced(dice, row, "2026-11-02T00:00:00.000002Z") for row in rows[180:260]]
        outdated = [made.repriced(dice, row, "2026-10-01T00:00:00.000000Z") for row in rows[100:300]]
        # The last version need not be inserted last, nor in another insert.
        for batch in (rows, [*last, *again], [*outdated, *later]):
            send(store_process, table, batch)
            sent += batch
    return sent


def send(store: Sandbox, table: str, rows: Rows) -> None:
    """Rows through the Events API; none is quarantined."""
    answer = httpx.post(
        f"{store.url}/v0/events",
        params={"name": table, "wait": "true"},
        content=b"\n".join(map(orjson.dumps, rows)),
        headers={"Authorization": f"Bearer {store.append_token}"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()) == (200, {"successful_rows": len(rows), "quarantined_rows": 0})


def ask(store: Sandbox, pipe: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """An endpoint's rows; numbers with a point as Decimal."""
    answer = httpx.get(
        f"{store.url}/v0/pipes/{pipe}.json",
        params=dict(parameters),
        headers={"Authorization": f"Bearer {store.read_token}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = json.loads(answer.text, parse_float=Decimal)["data"]
    return rows


def same(found: Rows, expected: Rows) -> None:
    """Equal, row by row: text, counts and USD exactly; shares, which are floats, to 9 digits."""
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        read = {name: float(value) if isinstance(right.get(name), float) else value for name, value in row.items()}
        near = {
            name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value for name, value in right.items()
        }
        assert read == near


BERLIN = {"zone": "Europe/Berlin"}
QUESTIONS = [
    Question(since=day(2026, 10, 24), until=day(2026, 10, 27), every="day", filters={}),
    Question(since=day(2026, 10, 20), until=day(2026, 10, 30, 5), every="day", filters={}, **BERLIN),
    Question(since=day(2026, 10, 24, 22), until=day(2026, 10, 25, 6), every="hour", filters={}, **BERLIN),
    Question(since=day(2026, 10, 24, 1), until=day(2026, 10, 24, 9), every="hour", filters={}, zone="Asia/Kolkata"),
    Question(since=day(2026, 10, 1), until=day(2026, 11, 1), every="total", filters={"tier": "seed"}),
    Question(since=day(2026, 10, 24), until=day(2026, 11, 1), every="day", filters={"provider": "aws", "tier": "seed"}),
    Question(since=day(2026, 10, 1), until=day(2026, 11, 1), every="total", filters={"user": "eve'; --"}),
    Question(since=day(2026, 10, 1), until=day(2026, 11, 1), every="day", filters={"model": "naïve model"}),
    Question(since=day(2026, 10, 1), until=day(2026, 11, 1), every="day", filters={"environment": "staging"}),
    Question(since=day(2025, 1, 1), until=day(2025, 1, 3), every="day", filters={}),
]  # fmt: skip
BY = ("model", "model_used", "provider", "tier", "user", "environment", "event_type")
Answer = Callable[[Rows, Question], list[dict[str, Any]]]


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
@pytest.mark.parametrize(
    ("pipe", "expected"),
    [
        ("birdfeed_cost", reference.cost),
        ("birdfeed_tokens", reference.tokens),
        ("birdfeed_images", reference.images),
        ("birdfeed_unpriced", reference.unpriced),
        ("birdfeed_tiers", reference.tiers),
        ("birdfeed_moderation", reference.moderation),
    ],
)
def test_an_endpoint_answers_as_python_does(
    store_process: Sandbox, stored: Rows, pipe: str, expected: Answer, question: Question
) -> None:
    """With any time zone, period and filter; days of 25 hours and gaps included."""
    same(ask(store_process, pipe, question.parameters), expected(reference.once(stored), question))


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize(
    ("pipe", "expected"),
    [
        ("birdfeed_cost", reference.cost),
        ("birdfeed_requests", reference.requests),
        ("birdfeed_tokens", reference.tokens),
        ("birdfeed_unpriced", reference.unpriced),
        ("birdfeed_moderation", reference.moderation),
    ],
)
def test_every_dimension(store_process: Sandbox, stored: Rows, pipe: str, expected: Answer, by: str) -> None:
    """`by` chooses the column."""
    question = Question(since=day(2026, 10, 24), until=day(2026, 10, 27), every="day", by=by, filters={})
    found = ask(store_process, pipe, {**question.parameters, "by": by})

    same([_without_percentiles(row) for row in found], expected(reference.once(stored), question))


def _without_percentiles(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("_ms")}


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_requests_and_percentiles(store_process: Sandbox, stored: Rows, question: Question) -> None:
    """Counts exactly; a percentile is at its rank, within two ranks."""
    rows = reference.once(stored)
    found = ask(store_process, "birdfeed_requests", question.parameters)

    same([_without_percentiles(row) for row in found], reference.requests(rows, question))
    for row, durations in zip(found, reference.latencies(rows, question), strict=True):
        for percent in (50, 90, 95, 99):
            value = row[f"p{percent}_ms"]
            if not durations:
                assert value is None
                continue
            rank = percent / 100 * (len(durations) - 1)
            low, high = durations[max(0, int(rank) - 2)], durations[min(len(durations) - 1, int(rank) + 3)]
            assert low * 0.999_999 <= float(value) <= high * 1.000_001


@pytest.mark.parametrize("order", ["cost_usd", "requests", "tokens", "errors"])
def test_top_users(store_process: Sandbox, stored: Rows, order: str) -> None:
    """In any order, and no more than asked for; name and tier are the last ones seen."""
    question = Question(since=day(2026, 10, 1), until=day(2026, 11, 1), every="total", filters={})
    parameters = {name: value for name, value in question.parameters.items() if name != "every"}
    found = ask(store_process, "birdfeed_top_users", {**parameters, "order": order, "limit": "4"})

    same(found, reference.top_users(reference.once(stored), question, order, 4))


def test_the_others_are_summed(store_process: Sandbox, stored: Rows) -> None:
    """top=2 names the two most expensive users, and the cost of no user is lost."""
    question = Question(since=day(2026, 10, 24), until=day(2026, 10, 27), every="day", by="user", filters={})
    found = ask(store_process, "birdfeed_cost", {**question.parameters, "by": "user", "top": "2"})

    same(found, reference.cost(reference.once(stored), question, 2))
    assert len({row["name"] for row in found}) == 3


def test_a_merge_changes_no_answer(store_process: Sandbox, stored: Rows) -> None:
    """The store drops superseded rows at some time; the answers before and after are the same."""
    question = QUESTIONS[0]
    before = ask(store_process, "birdfeed_cost", question.parameters)
    for table in ("llm_events", "image_events"):
        store_process.sql(f"SYSTEM START MERGES {table}")
        store_process.sql(f"OPTIMIZE TABLE {table} FINAL")

    [left] = store_process.sql("SELECT count() AS rows, uniqExact(event_id) AS events FROM llm_events")
    assert int(left["rows"]) == int(left["events"]) == 900
    assert ask(store_process, "birdfeed_cost", question.parameters) == before


def pipes() -> list[str]:
    return sorted(
        path.name.removesuffix(".pipe") for path in (files("birdfeed_schemas") / "data" / "endpoints").iterdir()
    )


@pytest.mark.parametrize("pipe", pipes())
def test_defaults_cover_the_last_days(store: Sandbox, pipe: str) -> None:
    """Without parameters an endpoint covers the last seven days, including an event of this minute."""
    dice = random.Random(7)
    now = datetime.now(UTC)
    for table, event_type in (("llm_events", "text_generation"), ("image_events", "image_generation")):
        send(store, table, made.sample(dice, event_type, [now - timedelta(days=8), now - timedelta(seconds=60)]))
    found = ask(store, pipe, {})

    column = "moderated_requests" if pipe == "birdfeed_moderation" else "requests"
    assert sum(row[column] for row in found) <= sum(row["requests"] for row in found)
    assert sum(row["requests"] for row in found) == (1 if pipe in ("birdfeed_images", "birdfeed_moderation") else 2)


@pytest.mark.parametrize("pipe", ["birdfeed_images", "birdfeed_requests", "birdfeed_top_users"])
def test_client_errors_can_be_left_out(store: Sandbox, pipe: str) -> None:
    """Clients' wrong requests are not faults of the service; by default they count."""
    dice = random.Random(7)
    rows = made.sample(dice, "image_generation", [datetime.now(UTC) - timedelta(seconds=60 + nth) for nth in range(4)])
    for row, error_type in zip(rows, ["client_error", "client_error", "Timeout", ""], strict=True):
        row.update(error_type=error_type, status="error" if error_type else "success")
    send(store, "image_events", rows)

    def counted(**parameters: str) -> tuple[int, int]:
        found = ask(store, pipe, parameters)
        return sum(row["requests"] for row in found), sum(row["errors"] for row in found)

    assert (counted(), counted(client_errors="1"), counted(client_errors="0")) == ((4, 3), (4, 3), (2, 1))


@pytest.mark.parametrize("pipe", pipes())
@pytest.mark.parametrize(
    "parameters", [{"every": "year"}, {"by": "traceback"}, {"order": "user; DROP"}, {"client_errors": "2"}]
)
def test_a_parameter_outside_its_list_is_refused(store: Sandbox, pipe: str, parameters: dict[str, str]) -> None:
    """So a token for endpoints reads no other column; unknown parameters are ignored."""
    [name] = parameters
    text = (files("birdfeed_schemas") / "data" / "endpoints" / f"{pipe}.pipe").read_text()
    answer = httpx.get(
        f"{store.url}/v0/pipes/{pipe}.json",
        params=parameters,
        headers={"Authorization": f"Bearer {store.read_token}"},
        timeout=60,
    )

    if f"defined({name})" in text:
        assert answer.status_code == 400
        assert f"{name} is" in answer.json()["error"]
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("name", pipes())
def test_an_endpoint_reads_each_table_once(name: str) -> None:
    """FINAL, never a second scan to find the last version."""
    pipe = load_project(packaged_project()).pipes[name]
    text = " ".join(node.sql for node in pipe.nodes)

    assert text.count("llm_events") == text.count("llm_events FINAL") == (0 if name == "birdfeed_images" else 1)
    assert text.count("image_events") == text.count("image_events FINAL") == (0 if name == "birdfeed_moderation" else 1)
    assert [token.permission for token in pipe.tokens] == ["READ"]
