"""`birdfeed prices check | diff | show`: their output as text and JSON, and their exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from typer.testing import CliRunner

GOOD = """
service_tiers = { default = 1, standard = 1 }

[[model]]
name = "mine"
aliases = ["gpt-4.1"]
unit = "token"
price = [{ until = 2026-03-01, prompt_text = 3, completion_text = 1.50 }, { from = 2026-03-01, prompt_text = 2 }]

[[model]]
name = "flux"
unit = "image"
price = { image = 0.003, variants = [{ when = { quality = "hd" }, image = 0.01 }] }
"""
BAD = """
[[model]]
name = "a"
unit = "token"
price = { prompt_text = -1 }

[[model]]
name = "b"
unit = "token"
price = [{ until = 2026-03-01, prompt_text = 3 }, { from = 2026-02-01, prompt_text = 2 }]

[[model]]
name = "b"
unit = "token"
price = { prompt_tex = 1 }
"""


def run(*command: str) -> tuple[int, str]:
    """The exit code, and the output on one line."""
    done = CliRunner().invoke(app, ["prices", *command])
    return done.exit_code, " ".join(done.output.split())


def run_json(*command: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, ["prices", *command, "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the user's .env and environment variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIRDFEED_PRICE_BOOK", raising=False)


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    return str(path)


def test_a_book_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As editors on Windows save it."""
    path = tmp_path / "windows.toml"
    path.write_text(GOOD, encoding="utf-8-sig")

    assert run("check", str(path))[0] == 0


def test_check_names_every_problem(bad: str) -> None:
    """Those of single fields and those between models, each with line and field; exit code 1."""
    code, said = run("check", bad)

    assert code == 1
    assert f"{bad}:5: a: price.prompt_text: a rate in USD must be 0 or more, not -1" in said
    assert f"{bad}:10: b: price[1]: overlaps in time with price 1 of the same model" in said
    assert f"{bad}:15: b: price.prompt_tex: there is no such field" in said
    assert "3 problems; the book can't be used" in said


def test_check_as_json(bad: str) -> None:
    """The same as JSON."""
    code, said = run_json("check", bad)

    assert (code, said["ok"]) == (1, False)
    assert {(one["line"], one["field"]) for one in said["problems"]} == {
        (5, "a: price.prompt_text"),
        (10, "b: price[1]"),
        (15, "b: price.prompt_tex"),
    }


def test_check_of_a_good_book(good: str) -> None:
    """A summary, what changes against the shipped book, and whose names it replaces."""
    code, said = run("check", good)

    assert code == 0
    assert "valid; 2 models (1 by token, 1 by image), 3 prices, 1 variant" in said
    assert "Compared with the shipped book, of which 35 models stay in use" in said
    assert "flux: image is 0.003, was 0.002" in said
    assert "mine is new: unit token; aliases gpt-4.1; prompt_text until 2026-03-01 3; completion_text until" in said
    assert "the name 'gpt-4.1' belongs to mine now (before: openai-large)" in said
    assert "note:" not in said
    assert "is gone" in run("diff", "shipped", good)[1]


def test_check_notes_possible_mistakes(tmp_path: Path) -> None:
    """Gaps between dates, and service tiers that the shipped book knows and this one doesn't."""
    path = tmp_path / "book.toml"
    path.write_text(
        '[[model]]\nname = "m"\nunit = "token"\nprice = [{ until = 2026-03-01, prompt_text = 1 }, '
        "{ from = 2026-04-01, until = 2026-05-01, prompt_text = 1 }]\n"
    )
    code, said = run_json("check", str(path))

    assert (code, said["hash"] != "") == (0, True)
    assert said["notes"][:2] == [
        "m: has no price from 2026-03-01 00:00 until 2026-04-01 00:00 UTC",
        "m: has no price from 2026-05-01 00:00 UTC on",
    ]
    assert "add [service_tiers] with default = 1, standard = 1" in said["notes"][2]


def test_diff(good: str, bad: str, tmp_path: Path) -> None:
    """Differences line by line; no difference is reported too; an unreadable book is a usage error."""
    other = tmp_path / "other.toml"
    other.write_text(GOOD.replace("0.01", "0.02"))

    assert run("diff", good, str(other)) == (0, "flux: variant 1 (quality hd) image is 0.02, was 0.01")
    assert run("diff", good, good) == (0, "no difference that changes a price")
    assert run_json("diff", good, str(other)) == (
        0,
        [{"model": "flux", "field": "variant 1 (quality hd) image", "old": "0.01", "new": "0.02"}],
    )
    assert run("diff", good, bad)[0] == 2
    assert run("diff", good, "nowhere.toml")[0] == 2


def test_show_names_the_layer_that_prices(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer that knows the name, in order; the first with a price in force is used."""
    monkeypatch.setenv("BIRDFEED_PRICE_BOOK", good)
    code, said = run_json("show", "gpt-4.1", "--at", "2026-02-01")

    assert code == 0
    assert [(one["source"], one["model"], one["match"], one["used"]) for one in said["layers"]] == [
        ("operator", "mine", "alias", True),
        ("book", "openai-large", "alias", False),
        ("genai-prices", "gpt-4.1", "name", False),
    ]
    assert said["layers"][0]["rates"] == {"prompt_text": "3", "completion_text": "1.5"}
    assert [price["in_force"] for price in said["layers"][0]["prices"]] == [True, False]

    code, words = run("show", "gpt-4.1", "--at", "2026-02-01")
    assert code == 0
    assert "good.toml): used mine, found by alias" in words
    assert "→ until 2026-03-01: prompt_text 3, completion_text 1.5 from 2026-03-01: prompt_text 2" in words
    assert "genai-prices 0" in words
    assert "not used: another one comes first" in words


def test_show_variants_and_service_tiers(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything on which a price depends."""
    monkeypatch.setenv("BIRDFEED_PRICE_BOOK", good)
    said = run("show", "flux")[1]

    assert "if quality hd: image 0.01" in said
    assert "service tiers: default x 1, standard x 1" in said


def test_show_of_a_model_without_a_price() -> None:
    """Exit code 1, and similar names."""
    code, said = run("show", "opnai")

    assert code == 1
    assert "no price for 'opnai'" in said
    assert "similar names: openai" in said
    assert run_json("show", "opnai")[1]["priced"] is False


def test_show_of_an_expired_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer is shown, and that it isn't in force."""
    path = tmp_path / "book.toml"
    path.write_text('[[model]]\nname = "m"\nunit = "token"\nprice = { until = 2026-01-01, prompt_text = 1 }\n')
    monkeypatch.setenv("BIRDFEED_PRICE_BOOK", str(path))
    code, said = run("show", "m", "--at", "2026-02-01T10:00:00Z")

    assert code == 1
    assert "not valid at that time" in said
    assert "no price for 'm' at 2026-02-01 10:00 UTC" in said


def test_show_with_an_invalid_date() -> None:
    """One sentence."""
    code, said = run("show", "m", "--at", "tomorrow")

    assert code == 2
    assert "'--at': 'tomorrow' is not a time; write 30m" in said
