"""Every command, found in the command tree, is given names that attack a terminal, a spreadsheet, a page or a log."""

import csv
import io
import json
import random
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from birdfeed.encoding.batch import pack
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from birdfeed_cli.app import app
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.safety.untrusted import visible
from birdfeed_worker.dead_letters.audit import note
from redis import Redis
from typer.testing import CliRunner

from tests.support import rows as made
from tests.support.commands import RUN_ON, commands
from tests.support.events import envelope, text
from tests.support.servers.system import System
from tests.support.worker.dead import bury

#: Writes the clipboard, sets the title, opens markup without closing it, starts new lines, reverses the text's
#: direction, and is a formula.
NAME = "=cmd|'/c calc'!A1\x1b]52;c;aGk=\x07[/red][bold]:smile:\n\rFORGED: all is well\u202e\x9b31m\u2028<script>"
SHOWN = visible(NAME)
REASON = "bad\x1b[2J[/red]\nFORGED"
#: Commands whose output must show the names: otherwise a command that prints nothing would pass.
SEEN_IN = {
    "ledger", "metrics", "status", "resume", "dead list", "dead show", "dead log", "dead export", "spool list", "send",
    "report", "prices missing", "prices show", "prices check", "prices diff", "prices estimate",
    "prices compare-invoice",
}  # fmt: skip

#: What a command's FILE is, by a word in its help.
FILES = {"price book": "book.toml", "bill": "bill.csv", "": "events.ndjson"}


def book() -> str:
    name = json.dumps(NAME)
    return f'[[model]]\nname = {name}\nprovider = {name}\nunit = "token"\nprice = {{ prompt_text = 3 }}\n'


@pytest.fixture(scope="module")
def sandbox_of_names() -> Iterator[Sandbox]:
    """A store with rows of hostile models and users."""
    with Sandbox() as sandbox:
        dice = random.Random(3)
        when = datetime.now(UTC) - timedelta(hours=2)
        rows = []
        for number, status in enumerate(("unpriced", "priced", "partial")):
            row = made.row(dice, "text_generation", when + timedelta(minutes=number))
            rows.append({**row, "model": NAME, "user": NAME, "tier": NAME, "cost_status": status, "price_model": ""})
        answer = httpx.post(
            f"{sandbox.url}/v0/events?name=llm_events&wait=true",
            content=b"\n".join(map(orjson.dumps, rows)),
            headers={"Authorization": f"Bearer {sandbox.append_token}"},
            timeout=60,
        )
        assert answer.json() == {"successful_rows": 3, "quarantined_rows": 0}
        yield sandbox


@pytest.fixture
def world(
    valkey_url: str, sandbox_of_names: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    """Redis, spool, store and price book, each with hostile names in every place for a name."""
    with System(valkey_url, sandbox_of_names, tmp_path) as system:
        for name, value in {**system.environment, "BIRDFEED_PRICE_BOOK": str(tmp_path / "book.toml")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        fill(system.redis, system)
        (tmp_path / "book.toml").write_text(book())
        event = {"event_type": "text_generation", "event_data": {"model": NAME, "usage": {"prompt_tokens": 9}}}
        lines = [json.dumps(event), json.dumps({**event, "event_type": NAME}), NAME.replace("\n", "")]
        (tmp_path / "events.ndjson").write_text("\n".join(lines))
        with (tmp_path / "bill.csv").open("w", newline="") as bill:
            csv.writer(bill).writerows([("day", "model", "cost"), (datetime.now(UTC).date(), NAME, 5)])
        line = b'{"event_id":"0","occurred_at":"2026-11-01T00:00:00Z","data":{}}'
        Spool.of(ProducerSettings().options()).add([pack(NAME, [line], compression=1)])
        yield system


def fill(redis: Redis, system: System) -> None:
    redis.flushall()
    keys = system.keys
    bury(redis, keys, [envelope(text(model=NAME, user=NAME))], reason=REASON, detail=NAME)
    bury(redis, keys, [envelope(text(model=NAME), event_type=NAME)], reason="invalid", detail=NAME)
    redis.hincrby(keys.ledger, f"accepted:{NAME}", 7)
    redis.hincrby(keys.ledger, f"dropped:{NAME}:{REASON}", 1)
    redis.hset(keys.birdfeed("destination:llm_events"), mapping={"backoff_until": "9999999999", "reason": NAME})
    tripped = json.dumps({"reason": NAME, "dead": 9, "seen": 9, "since": 1})
    redis.hset(keys.birdfeed("breaker"), mapping={NAME: tripped, "text_generation": tripped})
    redis.sadd("rq:workers", "rq:worker:evil")
    redis.sadd(f"rq:workers:{keys.queue}", "rq:worker:evil")
    redis.hset("rq:worker:evil", mapping={"hostname": NAME, "pid": "1", "state": NAME, "queues": keys.queue})
    note(redis, keys, NAME, choice={"model": NAME}, refused={NAME: 1})


def arguments(system: System, command: Any) -> list[str]:
    """Arguments that make a command do as much as it can: required values by name, all letters, no confirmation."""
    letter = next(iter(system.dead())).id
    known = {
        "file": str(system.folder / next(file for word, file in FILES.items() if word in (command.help or ""))),
        "which": letter,
        "model": NAME,
        "old": "shipped",
        "new": str(system.folder / "book.toml"),
        "folder": str(system.folder / "project"),
    }
    given = []
    options = {option: one for one in command.params for option in one.opts}
    for one in command.params:
        if one.param_type_name == "argument" and one.required:
            given.append(known.get(one.name, NAME))
    if "--since" in options and options["--since"].required:
        given += ["--since", "1d"]
    return given + [option for option in ("--all", "--yes") if option in options]


def forms(command: Any) -> list[list[str]]:
    """The output formats of a command."""
    options = {option for one in command.params for option in one.opts}
    return [[], *([one] for one in ("--json", "--csv", "--dry-run", "--letters", "--toml") if one in options)]


def harm(printed: str) -> list[str]:
    """Control characters and forged lines in an output."""
    controls = sorted({one for one in printed if one != "\n" and not one.isprintable() and one != "\xa0"})
    forged = [line for line in printed.split("\n") if re.match(r"\s*FORGED", line)]
    return [ascii(one) for one in controls] + forged


@pytest.mark.parametrize("words", [words for words, _ in commands() if words not in RUN_ON], ids=" ".join)
def test_no_name_is_more_than_text_in_a_terminal(world: System, words: tuple[str, ...]) -> None:
    """In every output format: no control character, no extra line, no markup, no traceback."""
    command = dict(commands())[words]
    given, events = arguments(world, command), (world.folder / "events.ndjson").read_text()
    seen = False
    for form in forms(command):
        done = CliRunner().invoke(app, [*words, *given, *form], input=events)
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        assert done.exit_code in (0, 1, 2, 3)
        assert harm(done.stdout) + harm(done.stderr) == [], form
        seen = seen or "FORGED" in done.output
    assert seen or " ".join(words) not in SEEN_IN, done.output


def test_json_has_names_unchanged(world: System) -> None:
    """JSON's escapes change nothing; what can't be printed was replaced when the job was read."""
    [kind] = [
        one
        for one in json.loads(CliRunner().invoke(app, ["dead", "list", "--json"]).stdout)
        if one["reason"] == "invalid"
    ]

    assert kind["event_type"] == "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in NAME)


def test_no_name_is_a_formula(world: System) -> None:
    """A spreadsheet shows it as text."""
    done = CliRunner().invoke(app, ["report", "--csv"])

    cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
    assert f"'{SHOWN}" in cells
    assert [cell for cell in cells if cell.lstrip()[:1] in ("=", "+", "@")] == []


@pytest.mark.parametrize("path", ["/costs?by=model", "/costs?by=user", "/prices"])
def test_no_name_is_markup_in_the_consoles_pages(world: System, path: str) -> None:
    """In the pages that are read from the store; tests/unit/cli/console tests the others."""
    from birdfeed_cli.console.access import Access
    from birdfeed_cli.console.app import Console, make_app
    from birdfeed_cli.console.replays import Runs
    from birdfeed_worker.settings import WorkerSettings
    from starlette.testclient import TestClient

    console = Console(
        connection=world.redis,
        keys=world.keys,
        access=Access("a-token-of-the-tests"),
        settings=WorkerSettings.load(),
        runs=Runs(world.redis, world.keys),
    )
    client = TestClient(make_app(console), base_url="http://127.0.0.1", headers={"Origin": "http://127.0.0.1"})
    client.post("/sign-in", data={"token": "a-token-of-the-tests"})

    page = client.get(path)

    assert page.status_code == 200
    assert "FORGED" in page.text
    assert "<script>" not in page.text
    assert harm(page.text) == []
    assert "by user" in page.text.lower() or path == "/prices"


def test_no_name_is_markup_in_the_report(world: System, tmp_path: Path) -> None:
    """The HTML has it as text, and no other user of the machine can read the file."""
    page = tmp_path / "report.html"
    page.write_text("older")
    page.chmod(0o644)

    CliRunner().invoke(app, ["report", "--html", str(page)])

    written = page.read_text()
    assert "<script" not in written
    assert "FORGED" in written
    assert harm(written) == []
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
