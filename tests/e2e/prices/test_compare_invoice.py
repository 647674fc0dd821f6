"""`birdfeed prices compare-invoice`: bills against a store and dead letters, with each reason for a difference."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.common.console import out
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.pricing.book.reload import BookSource
from redis import Redis
from typer.testing import CliRunner

from tests.support.events import envelope
from tests.support.stored import store, use
from tests.support.worker.dead import bury

DAY = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)
BOOK = """
[[model]]
name = "known"
unit = "token"
provider = "openai"
price = { prompt_text = 1000, completion_text = 4000 }

[[model]]
name = "other"
unit = "token"
provider = "azure-openai"
price = { prompt_text = 1000 }
"""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
COST = "1.04"
AUDIO = {**USAGE, "prompt_tokens_details": {"audio_tokens": 300}}
EVENTS: list[dict[str, Any]] = [
    *[{"model": "known", "model_used": "known-2026-01-31", "provider": "openai", "usage": USAGE}] * 3,
    {"model": "known", "provider": "openai", "usage": USAGE, "service_tier": "nobody-knows"},
    {"model": "known", "provider": "openai", "usage": AUDIO},
    {"model": "known", "provider": "openai", "usage": USAGE, "cache_hit": True},
    {"model": "known", "provider": "openai", "stream": True},
    {"model": "new", "provider": "openai", "usage": USAGE},
    {"model": "other", "usage": USAGE},
]
BILL = """\
start_time_iso,amount_value,amount_currency,line_item
2026-11-20T00:00:00,5.00,usd,"known-2026-01-31, input"
2026-11-20T00:00:00,2.28,usd,"known-2026-01-31, output"
2026-11-20T00:00:00,0.5,usd,"new, input"
2026-11-20T00:00:00,0.25,usd,web search tool calls
2026-11-21T00:00:00,,,
"""


@pytest.fixture
def folder(
    sandbox: Sandbox, redis: Redis, keys: Keys, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store with rows of one day and one dead event, priced by this book, and the folder of the bills."""
    book = tmp_path / "prices.toml"
    book.write_text(BOOK)
    use(sandbox, tmp_path, book, monkeypatch, BIRDFEED_REDIS_URL=valkey_url)
    monkeypatch.setattr(out, "width", 200)
    days = (DAY - timedelta(hours=1), DAY + timedelta(days=30))
    bury(redis, keys, [envelope(EVENTS[0], "text_generation", day) for day in days])
    store(sandbox, BookSource(book), "text_generation", [(DAY, event) for event in EVENTS])
    (tmp_path / "bill.csv").write_text(BILL)
    return tmp_path


def run(*arguments: str, text: str | None = None) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["prices", "compare-invoice", *arguments], input=text)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def run_json(*arguments: str, text: str | None = None) -> tuple[int, Any]:
    code, said = run(*arguments, "--json", text=text)
    return code, json.loads(said)


def test_a_bill_by_day_and_model(folder: Path) -> None:
    """Every number of a line; that day's dead events are named, with what they would have cost."""
    code, found = run_json("bill.csv")

    assert code == 1
    assert (found["provider"], found["agrees"], found["billed_cost"], found["dead_events_counted"]) == (
        "openai",
        False,
        "8.03",
        True,
    )
    assert [line["model"] for line in found["lines"]] == ["known-2026-01-31", "new", "web search tool calls"]
    known, new, search = found["lines"]
    assert known["by_status"] == {
        "priced": {"events": 3, "cost": "3.12"},
        "estimated": {"events": 1, "cost": COST},
        "partial": {"events": 1, "cost": "0.74"},
        "no_usage": {"events": 1, "cost": "0"},
    }
    assert (known["booked_cost"], known["billed_cost"], known["difference"]) == ("4.9", "7.28", "-2.38")
    assert known["dead"] == {"events": 1, "cost": COST}
    assert [sentence.split(",")[0].split(":")[0] for sentence in known["why"]] == [
        "1 event without usage",
        "1 event partial",
        "1 event estimated",
        "1 event dead",
    ]
    assert new["why"][0].startswith("1 event unpriced, so they count as 0")
    assert search["why"] == ["missing: no row and no dead event of it on this day"]
    assert found["left_out"] == {"azure-openai": 1}


def test_output_for_people(folder: Path) -> None:
    """The same: totals, the lines that differ, and why."""
    code, said = run("bill.csv")
    words = " ".join(said.replace("│", " ").split())

    assert code == 1
    assert (
        "openai, 2026-11-20 to 2026-11-20 (UTC) billed 8.03 USD, booked 4.9 USD 0 of 3 lines agree within 1 %" in words
    )
    assert "2026-11-20 known-2026-01-31 7.28 4.9 -2.38" in words
    assert "missing: no row and no dead event of it on this day" in words
    assert "not compared, because they are booked for another provider: 1 of azure-openai" in words


def test_a_bill_that_agrees(folder: Path) -> None:
    """Exit code 0; an export of tokens is compared by tokens, of the events that reached the provider."""
    plain = "day,model,cost\n2026-11-20,known,4.9\n2026-11-20,new,0\n2026-11-20,other,1\n"
    assert run("-", text=plain)[0] == 0
    tokens = {"uncached_input_tokens": 5000, "output_tokens": 50, "model": "known"}
    usage = {"data": [{"starting_at": "2026-11-20T00:00:00Z", "results": [tokens]}]}
    code, found = run_json("-", "--provider", "openai", text=json.dumps(usage))
    assert [line["agrees"] for line in found["lines"]] == [True, False]
    assert (code, found["billed_cost"], found["lines"][0]["booked_tokens"]) == (1, None, 5050)


def test_errors(folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and an exit code for each kind of error; without Redis, dead events are left out."""
    assert run("nowhere.csv")[0] == 2
    (folder / "bad.csv").write_text("day,model,cost\nsoon,m,1\n")
    done = CliRunner().invoke(app, ["prices", "compare-invoice", "bad.csv"])
    assert (done.exit_code, done.stderr) == (2, "birdfeed: bad.csv: line 2: 'soon' is not a day\n")
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://127.0.0.1:1/0")
    code, found = run_json("bill.csv")
    assert (code, found["dead_events_counted"], found["lines"][0]["dead"]["events"]) == (1, False, 0)
    monkeypatch.setattr("birdfeed_worker.operations.reprice.run.QUERY_TRIES", 1)
    sandbox.fault(on="reads", outage=True)
    assert run("bill.csv")[0] == 3
    sandbox.clear_faults()
    existing = "SCHEMA >\n    `cost` Float32 `json:$.cost` DEFAULT 0\n\nENGINE MergeTree\nENGINE_SORTING_KEY cost\n"
    sandbox.replace_datasource("llm_events", existing)
    done = CliRunner().invoke(app, ["prices", "compare-invoice", "bill.csv", "--json"])
    assert done.exit_code == 1
    assert "llm_events can't be read" in done.stderr
