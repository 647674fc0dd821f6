"""`birdfeed prices missing`: usage without a price is found in the store, and its entries can be pasted into a book."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.common.console import out
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.pricing.book.reload import BookSource
from typer.testing import CliRunner

from tests.support.stored import store, use

NOW = datetime.now(UTC)
BOOK = """
service_tiers = { default = 1, standard = 1 }

[[model]]
name = "known"
unit = "token"
price = { prompt_text = 1, completion_text = 4 }
"""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
AUDIO = {**USAGE, "prompt_tokens_details": {"audio_tokens": 300}}
TEXTS: list[dict[str, Any]] = [
    *[{"model": "new-one", "model_used": 'new "one" 2026', "provider": "maker", "usage": USAGE}] * 3,
    {"model": "other-name", "model_used": 'new "one" 2026', "provider": "maker", "usage": USAGE},
    {"model": "known", "usage": AUDIO},
    *[{"model": "openai", "model_used": "gpt-4.1-nano-2025-04-14", "usage": AUDIO}] * 2,
    {"model": "known", "usage": {"prompt_tokens": -1}},
    {"model": "known", "usage": USAGE},
    {"model": "nothing-to-pay", "cost": 1},
]
IMAGES: list[dict[str, Any]] = [
    {"model": "painter", "num_images": 4},
    {"model": "wan-fast", "video_seconds": 5, "audio_seconds": 2.5},
    {"model": "singer", "audio_seconds": 9},
]


@pytest.fixture
def book(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows priced by this book are in the store."""
    path = tmp_path / "prices.toml"
    path.write_text(BOOK)
    use(sandbox, tmp_path, path, monkeypatch)
    for kind, events in (("text_generation", TEXTS), ("image_generation", IMAGES)):
        store(sandbox, BookSource(path), kind, [(NOW - timedelta(hours=3), event) for event in events])
    return path


def run(*command: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["prices", *command])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_what_is_missing(book: Path) -> None:
    """By the model that answered, with counts, tokens and missing rates; invalid usage is not a missing price."""
    code, said = run("missing", "--json")

    assert code == 1
    models = {one["model"]: one for one in json.loads(said)["models"]}
    assert list(models) == ['new "one" 2026', "openai", "known", "painter", "singer", "wan-fast"]
    assert models['new "one" 2026'] | {"last": ""} == {
        "model": 'new "one" 2026',
        "asked_for_as": ["new-one", "other-name"],
        "status": "unpriced",
        "event_type": "text_generation",
        "events": 4,
        "tokens": 4040,
        "used": {"prompt_text": 4000, "completion_text": 40},
        "lacking": [],
        "last": "",
        "priced_now": False,
    }
    assert {name: one["lacking"] for name, one in models.items() if one["status"] == "partial"} == {
        "openai": ["prompt_audio"],
        "known": ["prompt_audio"],
        "wan-fast": ["audio_second"],
    }
    assert run("missing", "--json", "--since", "2h")[0] == 0


def test_the_table(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people: the same data, then the entries."""
    monkeypatch.setattr(out, "width", 200)
    code, said = run("missing")
    words = " ".join(said.replace("│", " ").split())

    assert code == 1
    assert 'new "one" 2026 unpriced 4 4,040 all' in words
    assert "openai partial 2 2,020 prompt_audio 600" in words
    assert "[[model]]" in said


def test_the_entries_go_into_a_book(book: Path) -> None:
    """Pasted as they are, `prices check` names each rate to fill in; filled in, nothing is missing."""
    code, toml = run("missing", "--toml")
    assert code == 1
    assert "# asked for as" not in toml
    assert "# 4 events unpriced, the last at" in toml
    assert (
        'name = "new \\"one\\" 2026"\nprovider = "maker"\nunit = "token"  # or "image", "megapixel", "second"' in toml
    )
    assert "# price = { prompt_text = , prompt_cached = , completion_text =  }  # USD per 1,000,000 tokens" in toml
    assert '# your book has "known": add what is missing there' in toml
    assert 'name = "openai"\naliases = ["gpt-4.1-nano-2025-04-14"]\nprovider = "azure-openai"' in toml
    assert "{ prompt_text = 0.1, prompt_cached = 0.03, prompt_audio = , completion_text = 0.4 }" in toml
    assert "{ video_second = 0.01, audio_second =  }" in toml
    book.write_text(BOOK + toml)

    code, said = run("check", str(book))
    assert code == 1
    assert said.count("price: is required") == 5

    filled = toml.replace("# price = ", "price = ").replace("= ,", "= 2,").replace("=  }", "= 2 }")
    book.write_text(BOOK.replace("completion_text = 4", "completion_text = 4, prompt_audio = 9") + filled)
    code, said = run("check", str(book))
    assert code == 0, said

    done = CliRunner().invoke(app, ["prices", "reprice", "--since", "1d", "--yes", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["written"]) == (0, 4 + 2 + 1 + 1 + 1 + 1)
    assert run("missing") == (0, "")


def test_one_name_under_two_event_types(book: Path, sandbox: Sandbox) -> None:
    """A book may name a model once: one entry, with what was used under each event type as comments."""
    painter = {"model": "painter", "usage": USAGE}
    store(sandbox, BookSource(book), "text_generation", [(NOW, painter)])
    toml = run("missing", "--toml")[1]

    assert toml.count('name = "painter"') == 1
    assert "# used: image 4" in toml
    assert "# used: prompt_text 1,000, completion_text 10" in toml
    book.write_text(BOOK + toml.replace("# price = ", "price = ").replace("= ,", "= 2,").replace("=  }", "= 2 }"))
    assert run("check", str(book))[0] == 0


def test_what_has_a_price_now(book: Path) -> None:
    """With a book that was completed meanwhile: it says to reprice the rows, and prints no entry."""
    book.write_text(BOOK + '[[model]]\nname = "new \\"one\\" 2026"\nunit = "token"\nprice = { prompt_text = 1 }\n')
    code, toml = run("missing", "--toml")

    assert code == 1
    assert '# it has a price now: birdfeed prices reprice --since ... --model "new \\"one\\" 2026"' in toml
    assert 'name = "new' not in toml


def test_the_fallback_is_used(book: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """A text model that genai-prices knows has a price."""
    store(sandbox, BookSource(book), "text_generation", [(NOW, {"model": "gpt-4o", "usage": USAGE})])
    monkeypatch.setenv("BIRDFEED_PRICE_FALLBACK", "true")
    models = {one["model"]: one for one in json.loads(run("missing", "--json")[1])["models"]}

    assert models["gpt-4o"]["priced_now"] is True


def test_a_table_without_prices(book: Path, sandbox: Sandbox) -> None:
    """The LLM template's own table can't be queried; the other one is."""
    existing = "SCHEMA >\n    `timestamp` DateTime `json:$.start_time`,\n    `cost` Float32 `json:$.cost` DEFAULT 0\n"
    sandbox.replace_datasource("llm_events", existing + '\nENGINE "MergeTree"\nENGINE_SORTING_KEY "timestamp"\n')
    done = CliRunner().invoke(app, ["prices", "missing", "--json"])

    assert done.exit_code == 1
    assert "llm_events can't be read" in done.stderr
    assert {one["model"] for one in json.loads(done.stdout)["models"]} == {"painter", "singer", "wan-fast"}


def test_errors(book: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and an exit code for each kind of error."""
    assert run("missing", "--since", "soon")[0] == 2
    sandbox.fault(on="reads", outage=True)
    monkeypatch.setattr("birdfeed_worker.operations.reprice.run.QUERY_TRIES", 1)
    assert run("missing")[0] == 3
    sandbox.clear_faults()
    monkeypatch.setenv("TINYBIRD_READ_TOKEN", "p.wrong")
    assert run("missing")[0] == 2
    monkeypatch.delenv("TINYBIRD_READ_TOKEN")
    assert run("missing")[0] == 2


def test_unread_usage_by_its_shape(book: Path, sandbox: Sandbox) -> None:
    """Incomplete, unread and missing usage, by keys, with the unread numbers and what to do."""
    events: list[dict[str, Any]] = [
        *[{"model": "known", "usage": {**USAGE, "video_frames": 4}}] * 2,
        {"model": "known", "usage": {"units_consumed": 5}},
        {"model": "known", "stream": True},
        {"model": "known"},
    ]
    store(sandbox, BookSource(book), "text_generation", [(NOW - timedelta(hours=2), event) for event in events])
    lines = CliRunner().invoke(app, ["prices", "missing"]).stderr.splitlines()

    def line(start: str) -> str:
        return next(one for one in lines if one.strip().startswith(start))

    assert "keys completion_tokens, prompt_tokens, video_frames; not read: usage.video_frames" in line("2 x incomplete")
    assert any("keys units_consumed; not read: usage.units_consumed" in one for one in lines)
    assert "include_usage" in line("1 x stream_without_usage")
    assert "usage" in line("1 x missing")
    shapes = {one["usage_status"]: one for one in json.loads(run("missing", "--json", "--since", "150m")[1])["usage"]}
    assert {status: one["events"] for status, one in shapes.items()} == {
        "incomplete": 2,
        "invalid": 1,
        "stream_without_usage": 1,
        "missing": 1,
    }
    assert shapes["incomplete"]["keys"] == ["completion_tokens", "prompt_tokens", "video_frames"]
    assert shapes["incomplete"]["not_read"] == ["usage.video_frames"]
    report = CliRunner().invoke(app, ["report", "--since", "150m", "--json"])
    assert json.loads(report.stdout)["usage"] == list(shapes.values())
    said = CliRunner().invoke(app, ["report", "--since", "150m"]).stdout
    assert "usage that was not read, by its keys" in said
    assert "stream_options" in said
    page = book.parent / "report.html"
    CliRunner().invoke(app, ["report", "--since", "150m", "--html", str(page)])
    assert "usage.video_frames" in page.read_text()
