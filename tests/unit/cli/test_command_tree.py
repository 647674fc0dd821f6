"""The tree of commands: its groups in the help, -h everywhere, and the former names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.common.command_tree import PANELS
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from typer.main import get_command
from typer.testing import CliRunner, Result

from tests.support.worker.dead import bury, events

EVENT = '{"event_type": "text_generation", "event_data": {"model": "openai", "usage": {"prompt_tokens": 9}}}\n'


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with its full name."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*words, name))

    yield from walk(get_command(app), ())


@pytest.fixture
def run(valkey_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A command, without the user's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    for name in ("TINYBIRD_HOST", "TINYBIRD_TOKEN", "TINYBIRD_READ_TOKEN", "BIRDFEED_PRICE_BOOK"):
        monkeypatch.delenv(name, raising=False)
    return lambda *command, **more: CliRunner().invoke(app, list(command), **more)


def outcome(done: Result) -> tuple[int, str, str]:
    return done.exit_code, done.stdout, done.stderr


def test_every_command_is_in_a_group_of_the_help() -> None:
    """In the order of an operator's work; former names are in none."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    places = [shown.index(f"─ {panel} ─") for panel in PANELS]

    top = {words[0]: command for words, command in commands() if len(words) == 1}

    assert places == sorted(places)
    assert {name for name, command in top.items() if command.hidden} == {"replay", "reprice", "price"}
    assert [name for name, command in top.items() if not command.hidden and command.rich_help_panel not in PANELS] == []
    assert "─ Commands ─" not in shown


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_help_has_a_short_form(words: tuple[str, ...]) -> None:
    """After any command; it fits 80 columns."""
    short, long = (CliRunner().invoke(app, [*words, option], env={"COLUMNS": "80"}) for option in ("-h", "--help"))

    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert max(len(line) for line in short.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("former", "now", "text"),
    [
        (("price",), ("prices", "estimate", "--json"), EVENT + "{\n"),
        (("price", "--explain"), ("prices", "explain"), EVENT),
        (("price", "--book", "nowhere.toml"), ("prices", "estimate", "--json", "--book", "nowhere.toml"), EVENT),
        (("reprice", "--since", "1d"), ("prices", "reprice", "--since", "1d"), None),
        (("reprice", "--since", "zz"), ("prices", "reprice", "--since", "zz"), None),
        (("reprice", "--since", "1d", "--yes"), ("prices", "reprice", "--since", "1d", "--yes"), None),
        (("replay",), ("dead", "replay"), None),
        (("replay", "--all", "--dry-run"), ("dead", "replay", "--all", "--dry-run"), None),
        (("replay", "--reason", "invalidd"), ("dead", "replay", "--reason", "invalidd"), None),
    ],
)
def test_former_names_do_the_same(
    run: Any, redis: Redis, keys: Keys, former: tuple[str, ...], now: tuple[str, ...], text: str | None
) -> None:
    """The same output and exit code, success or not."""
    bury(redis, keys, events(2))

    assert outcome(run(*former, input=text)) == outcome(run(*now, input=text))


def test_a_price_explained(run: Any) -> None:
    """With each number; a line that is not an event is reported with its number, and the others are explained."""
    done = run("prices", "explain", input=EVENT + "{}\n")

    assert done.exit_code == 1
    assert "prompt_text: 9 / 1,000,000 * " in done.stdout
    assert "birdfeed: line 2: event_type: None is not one of" in done.stderr


def test_a_price_estimated_for_people(run: Any, tmp_path: Path) -> None:
    """One line for each event: its cost, status, type and price; a missing file is a usage error."""
    (tmp_path / "events.ndjson").write_text(EVENT)

    done = run("prices", "estimate", "events.ndjson")

    assert done.stdout.split()[1:] == ["USD", "priced", "text_generation,", "price", "of", "openai"]
    missing = run("prices", "estimate", "nowhere.ndjson")
    assert (missing.exit_code, missing.stderr) == (
        2,
        "birdfeed: can't read nowhere.ndjson: No such file or directory\n",
    )


def test_an_unexpected_error_keeps_its_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only known errors become a sentence."""

    def bug(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("birdfeed_cli.operate.ledger.reconcile", bug)

    assert isinstance(run("ledger").exception, KeyError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("docto",), "No such command 'docto'. Did you mean 'doctor'?"),
        (("prices", "mising"), "No such command 'mising'. Did you mean 'missing'?"),
        (("dead", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("doctor", "--sned"), "No such option: --sned (Possible options: --json, --send)"),
        (("status", "--jsn"), "No such option: --jsn (Possible options: --json)"),
    ],
    ids=str,
)
def test_a_misspelt_name_gets_the_nearest_one(words: tuple[str, ...], said: str) -> None:
    """A command at any depth, and an option."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})

    assert (done.exit_code, said in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["up", "worker"])
def test_zero_workers_are_refused_in_a_sentence(command: str) -> None:
    """Before anything is started."""
    done = CliRunner().invoke(app, [command, "--processes", "0"])

    said = "a pool has from 1 to 1,000 worker processes, not 0"
    assert (done.exit_code, said in done.stderr) == (2, True)
