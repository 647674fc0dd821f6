"""The commands on dead letters and the ledger: their output as text and JSON, and their exit codes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.model import Dead
from redis import Redis
from typer.testing import CliRunner

from tests.support.events import envelope, text
from tests.support.worker.dead import accept, bury, events, work

Run = Callable[..., Any]


@pytest.fixture
def run(valkey_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *command, **more: CliRunner().invoke(app, list(command), **more)


def test_list_shows_kinds(run: Run, redis: Redis, keys: Keys) -> None:
    """One row for each kind of failure, within 80 columns; --json has the same."""
    old = datetime.now(UTC) - timedelta(days=3, hours=1)
    bury(redis, keys, events(3), now=old)
    bury(redis, keys, events(2, user="ann"), "quarantined", "cost: not a number, and a long story besides " * 3)

    shown = run("dead", "list")
    listed = json.loads(run("dead", "list", "--json").stdout)
    filtered = json.loads(run("dead", "list", "--json", "--user", "ann").stdout)

    assert shown.exit_code == 0
    assert "5 dead events" in shown.stdout
    assert "3 d ago" in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert [(kind["reason"], kind["events"], kind["dead_letters"]) for kind in listed] == [
        ("invalid", 3, 1),
        ("quarantined", 2, 1),
    ]
    assert listed[0]["fingerprint"] in shown.stdout
    assert [(kind["reason"], kind["events"]) for kind in filtered] == [("quarantined", 2)]
    assert "no dead letters" in run("dead", "list", "--reason", "too_large").stdout
    assert len(run("dead", "list", "--letters").stdout.splitlines()) == 2
    assert json.loads(run("dead", "list", "--letters", "--json").stdout.splitlines()[0])["events"] == 3


def test_a_letter_written_by_another_tool_hides_no_other(run: Run, redis: Redis, keys: Keys) -> None:
    """Times that are invalid, or have no time zone, are left out."""
    letters = bury(redis, keys, events(3, user="ann"), each=True)
    for letter, last in zip(letters, ("yesterday", "2026-11-01T00:00:00", "9" * 400), strict=True):
        facts = {"fingerprint": f"f{last[:3]}", "first": last, "last": last}
        redis.hset(keys.job(letter.id), "bf_dead", json.dumps(facts))

    shown = run("dead", "list")

    assert shown.exit_code == 0, shown.exception
    assert "3 dead events" in shown.stdout
    assert all(mark in shown.stdout for mark in ("fyes", "f202", "f999"))


def test_show(run: Run, redis: Redis, keys: Keys) -> None:
    """By id or fingerprint; the events with their data."""
    (letter,) = bury(redis, keys, events(5))

    by_id = run("dead", "show", letter.id, "--events", "2")
    as_json = json.loads(run("dead", "show", letter.fingerprint[:6], "--json").stdout)
    missing = run("dead", "show", "nothing")

    assert "invalid: model: Field required" in by_id.stdout
    assert '"request_id": "r1"' in by_id.stdout
    assert "... and 3 more" in by_id.stdout
    assert (as_json["id"], len(as_json["shown"])) == (letter.id, 3)
    assert missing.exit_code == 1
    assert "no dead letter has the id or fingerprint 'nothing'" in missing.stderr


def test_selected_by_text_or_by_id(run: Run, redis: Redis, keys: Keys) -> None:
    """A replay that was selected by id is continued with the same ids; the log has how many, not which."""
    first, second, _ = bury(redis, keys, events(3, user="ann"), each=True)
    bury(redis, keys, events(1, user="bob"), "quarantined", "cost: not a number")

    by_text = json.loads(run("dead", "list", "--text", "NOT A", "--json").stdout)
    run("dead", "replay", "--id", first.id, "--id", second.id, "--limit", "1")
    log = json.loads(run("dead", "log", "--json").stdout)
    resumed = json.loads(run("dead", "replay", "--resume", log[0]["replay"], "--json").stdout)

    assert [(kind["reason"], kind["events"]) for kind in by_text] == [("quarantined", 1)]
    assert log[1]["choice"] == {"ids": [first.id, second.id]}
    assert "2 selected dead letters" in " ".join(run("dead", "log").stdout.split())
    assert resumed["events"] == 1
    assert redis.zcard(keys.failed) == 2


def test_replay_shows_what_went_back(run: Run, redis: Redis, keys: Keys) -> None:
    """And the log has who did it and how to continue."""
    bury(redis, keys, events(3))

    dry = run("dead", "replay", "--all", "--dry-run")
    done = run("dead", "replay", "--reason", "invalid", "--limit", "2")
    log = json.loads(run("dead", "log", "--json").stdout)

    assert "3 events of 1 dead letter would go back" in dry.stdout
    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert "2 events of 1 dead letter are back in the queue" in done.stdout
    assert "no worker is running" in done.stderr
    assert [entry["action"] for entry in log] == ["replay ends", "replay begins"]
    assert (log[0]["events"], log[1]["choice"]) == (2, {"reason": "invalid"})
    resumed = run("dead", "replay", "--resume", log[0]["replay"], "--json")
    assert json.loads(resumed.stdout)["events"] == 1
    assert json.loads(resumed.stdout)["replay"] == log[0]["replay"]
    assert "replay begins" in run("dead", "log").stdout


def test_replay_fixes_fields(run: Run, redis: Redis, keys: Keys) -> None:
    """--set, --unset; what would still be refused is listed with the reason, and the exit code is 1."""
    bury(redis, keys, [envelope(text(model=4.1)), envelope(text(model=4.1, duration=-1))])

    done = run("dead", "replay", "--all", "--set", "model=openai")
    again = run("dead", "replay", "--all", "--set", "model=openai", "--unset", "duration")

    assert done.exit_code == 1
    assert "1 event of 1 dead letter is back" in done.stdout
    assert "1 event would be refused by the worker and stay dead: duration: Input should be greater" in done.stdout
    assert (again.exit_code, len(work(redis, keys))) == (0, 2)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("dead", "replay"), "choose dead letters: give --reason, --type or another filter, or --all"),
        (("dead", "purge", "--yes"), "choose dead letters"),
        (("dead", "replay", "--since", "yesterday"), "'--since': 'yesterday' is not a time; write 30m, 24h"),
        (("dead", "replay", "--all", "--set", "model"), "'model' is not name=value"),
        (("dead", "replay", "--resume", "replay-x"), "no replay is named 'replay-x'; `birdfeed dead log`"),
        (("dead", "replay", "--resume", "x", "--all"), "--resume uses the filters of the stopped replay"),
        (("ledger", "--write-off"), "can't ask for confirmation without a terminal: add --yes"),
        (("ledger", "--watch", "--json"), "--watch and --json can't be combined"),
        (("status", "--watch", "--json"), "--watch and --json can't be combined"),
        (
            ("dead", "replay", "--all", "--canary-wait", "30"),
            "'--canary-wait': '30' is not a length of time",
        ),
        (("dead", "replay", "--all", "--set-type", "text_generatio"), "did you mean text_generation?"),
        (("dead", "purge", "--all"), "can't ask for confirmation without a terminal: add --yes"),
        (("dead", "import", "no-such-file"), "can't read no-such-file: No such file or directory"),
        (("dead", "export", "/no/such/folder/file"), "can't write /no/such/folder/file"),
    ],
)
def test_wrong_use_is_one_sentence(run: Run, command: tuple[str, ...], expected: str) -> None:
    """Exit code 2, and nothing was done."""
    done = run(*command)

    assert done.exit_code == 2
    assert expected in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["list", "export", "replay", "purge"])
def test_a_misspelt_filter_gets_the_nearest_name(run: Run, command: str) -> None:
    """Exit code 2: an error, rather than an empty result."""
    reason = run("dead", command, "--reason", "quarantind")
    kind = run("dead", command, "--type", "text_generatoin")

    assert (reason.exit_code, kind.exit_code) == (2, 2)
    assert "'--reason': 'quarantind' is not a reason; did you mean quarantined? Known: gave_up, int" in reason.stderr
    assert "'--type': 'text_generatoin' is not an event type; did you mean text_generation?" in kind.stderr


def test_a_type_that_only_dead_letters_have_can_be_selected(run: Run, redis: Redis, keys: Keys) -> None:
    """No event type of that name is installed, which is why they are dead letters."""
    bury(redis, keys, [envelope({"model": "m"}, "speech")], "unknown_event_type")

    listed = run("dead", "list", "--type", "speech", "--json")

    assert [kind["event_type"] for kind in json.loads(listed.stdout)] == ["speech"]


def test_export_edit_import(run: Run, redis: Redis, keys: Keys, tmp_path: Path) -> None:
    """The file is for its owner only."""
    bury(redis, keys, [envelope(text(model=4.1, request_id="r1"))])
    file = tmp_path / "dead.ndjson"

    out = run("dead", "export", str(file))
    refused = run("dead", "import", str(file))
    file.write_text(file.read_text().replace('"model":4.1', '"model":"openai"'))
    back = run("dead", "import", str(file))
    again = run("dead", "import", str(file), "--json")

    assert "1 event exported; exported events stay dead" in out.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert refused.exit_code == 1
    assert "line 1: model: Input should be a valid string" in refused.stderr
    assert (back.exit_code, back.stdout.splitlines()[0]) == (0, "1 event is back in the queue")
    assert json.loads(again.stdout)["not_dead"] == 1
    assert json.loads(run("dead", "log", "--json").stdout)[-1]["action"] == "export"


def test_an_export_does_not_overwrite_a_file(run: Run, redis: Redis, keys: Keys, tmp_path: Path) -> None:
    """Unless told to; a path that is not a regular file can be written to."""
    bury(redis, keys, events(2))
    file = tmp_path / "dead.ndjson"
    file.write_text("edited\n" * 9)

    refused = run("dead", "export", str(file))
    kept = file.read_text()
    forced = run("dead", "export", str(file), "--force")

    assert (refused.exit_code, kept) == (2, "edited\n" * 9)
    assert f"{file} exists; choose another name, or --force to overwrite it" in refused.stderr
    assert (forced.exit_code, len(file.read_text().splitlines())) == (0, 2)
    assert run("dead", "export", "/dev/null").exit_code == 0


def test_export_to_standard_output(run: Run, redis: Redis, keys: Keys) -> None:
    """Only the events' lines."""
    bury(redis, keys, events(2))

    lines = run("dead", "export", "--limit", "1").stdout.splitlines()

    assert [json.loads(line)["event_data"]["request_id"] for line in lines] == ["r0"]


def test_purge(run: Run, redis: Redis, keys: Keys) -> None:
    """With --yes; counted."""
    bury(redis, keys, events(3))

    dry = run("dead", "purge", "--all", "--dry-run")
    done = run("dead", "purge", "--all", "--yes")

    assert "3 events of 1 dead letter would be deleted" in dry.stdout
    assert "3 events of 1 dead letter are deleted" in done.stdout
    assert list(dead_letters_of(redis, keys)) == []
    ledger = json.loads(run("ledger", "--json").stdout)
    assert (ledger["balanced"], ledger["total"]["purged"]) == (True, 3)


def test_ledger(run: Run, redis: Redis, keys: Keys) -> None:
    """It balances, or shows the difference and its likely cause; after a write-off it balances again."""
    lost = accept(redis, keys, events(2))
    accept(redis, keys, [envelope({"model": "flux"}, "image_generation")])
    good = run("ledger")
    redis.delete(keys.job(lost))

    bad = run("ledger")
    off = run("ledger", "--write-off", "--yes")
    after = run("ledger")

    assert good.exit_code == 0
    assert "The ledger balances." in good.stdout
    assert max(len(line) for line in good.stdout.splitlines()) <= 80
    assert bad.exit_code == 1
    said = " ".join(bad.stdout.split())
    assert "does not balance: 2 text_generation events are missing." in said
    assert "1 entry of the queue or a registry has no job" in said
    assert "2 missing events are now counted as purged" in off.stdout
    assert after.exit_code == 0
    work(redis, keys, lambda item: Dead("invalid", "x"))
    assert "dead: invalid 1" in run("ledger").stdout


def test_a_write_off_as_json(run: Run, redis: Redis, keys: Keys) -> None:
    """Only JSON, whether something was missing or not."""
    lost = accept(redis, keys, events(2))
    redis.delete(keys.job(lost))

    done, again = (run("ledger", "--write-off", "--yes", "--json") for _ in range(2))

    assert (done.exit_code, json.loads(done.stdout)["written_off"]) == (0, 2)
    assert (again.exit_code, json.loads(again.stdout)["written_off"]) == (0, 0)


def test_without_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3 and one sentence."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://:secret@127.0.0.1:1/0")

    done = run("dead", "list")

    assert done.exit_code == 3
    assert "doesn't answer" in done.stderr
    assert "secret" not in done.stderr
