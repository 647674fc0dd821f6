"""`birdfeed doctor` and `birdfeed.check()`: faults of a set-up, and what to do about them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import birdfeed
import pytest
from birdfeed import api
from birdfeed.checks import look
from birdfeed.checks.findings import Check, exit_code
from birdfeed.client import Client
from birdfeed_cli.app import app
from birdfeed_cli.setup import doctor
from birdfeed_schemas.safety.redis_facts import RedisFacts
from birdfeed_schemas.tables.pages import page
from birdfeed_worker.tinybird.schema_compare import Mismatch
from redis import Redis
from typer.testing import CliRunner

from tests.support.servers.raw_http import answer, raw_server
from tests.support.servers.redis_servers import free_port

GOOD_REDIS = RedisFacts(
    version=(8, 1), valkey=True, policy="noeviction", append_only=True, memory_used=1, memory_max=1_000
)
MISSING = Mismatch("llm_events", "cost_exact", "no_column", "is missing: costs lose digits")


def beat(redis: Redis, at: datetime) -> None:
    """Write a worker's heartbeat with this time."""
    redis.sadd("rq:workers:birdfeed", "rq:worker:w")
    redis.hset("rq:worker:w", mapping={"hostname": "h", "pid": "1", "last_heartbeat": at.isoformat()})


@pytest.fixture
def setup(
    valkey_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[pytest.MonkeyPatch]:
    """A healthy set-up: a Redis that keeps its events, a running worker, and a store whose columns fit."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "BIRDFEED_REDIS_URL": valkey_url,
        "BIRDFEED_SPOOL_DIR": str(tmp_path / "spool"),
        "TINYBIRD_HOST": "https://api.example.com",
        "TINYBIRD_TOKEN": "append",
        "TINYBIRD_READ_TOKEN": "read",
    }.items():
        monkeypatch.setenv(name, value)
    beat(redis, datetime.now(UTC))
    monkeypatch.setattr(look, "redis_facts", lambda connection: GOOD_REDIS)
    monkeypatch.setattr(doctor, "check_schemas", lambda store: [])
    monkeypatch.setattr(doctor, "check_append", lambda store: [])
    before = api.use_client(Client())
    yield monkeypatch
    api.use_client(before)


def examined(*options: str) -> tuple[int, dict[str, list[Check]]]:
    """The exit code, and the findings by name."""
    done = CliRunner().invoke(app, ["doctor", "--json", *options])
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.exit_code
    found: dict[str, list[Check]] = {}
    for one in told["checks"]:
        if one["state"] not in ("ok", "unknown"):
            found.setdefault(one["name"], []).append(Check(**one))
    return done.exit_code, found


def test_nothing_is_wrong(setup: pytest.MonkeyPatch) -> None:
    """Every part has its line, and nothing needs to be done."""
    done = CliRunner().invoke(app, ["doctor"])

    assert done.exit_code == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        *("ok sends", "ok spool", "ok redis", "ok pool", "ok queue", "ok store"),
    ]
    assert "(from BIRDFEED_REDIS_URL), queue 'birdfeed'; users are sent unhashed" in done.stdout
    assert "append" not in done.stdout


#: How each set-up is broken: variables (None: unset), the exit code, the line that reports it, and its words.
BROKEN: dict[str, tuple[dict[str, str | None], int, str, str, str]] = {
    "no Redis is set": ({"BIRDFEED_REDIS_URL": None}, 2, "sends", "no Redis is configured", "set BIRDFEED_REDIS_URL"),
    "turned off": ({"BIRDFEED_ENABLED": "false"}, 2, "sends", "turned off", "unset BIRDFEED_ENABLED"),
    "a value that is none": (
        {"BIRDFEED_BATCH_EVENTS": "many"},
        2,
        "settings",
        "invalid settings, so telemetry is off: BIRDFEED_BATCH_EVENTS",
        "`birdfeed settings` shows each",
    ),
    "a misspelt variable": (
        {"BIRDFEED_QUUE": "x"},
        1,
        "settings",
        "BIRDFEED_QUUE is not a birdfeed setting",
        "did you mean BIRDFEED_QUEUE?",
    ),
    "no Redis there": (
        {"BIRDFEED_REDIS_URL": "redis://127.0.0.1:{port}/0"},
        3,
        "redis",
        "Connection refused)",
        "correct BIRDFEED_REDIS_URL; until then events wait in the spool",
    ),
    "a wrong password": (
        {"BIRDFEED_REDIS_URL": "redis://:secret@{redis}"},
        2,
        "redis",
        "refuses the user or password",
        "correct them in BIRDFEED_REDIS_URL",
    ),
    "another queue than the pool's": (
        {"BIRDFEED_QUEUE": "staging"},
        3,
        "pool",
        "no worker serves the queue 'staging'",
        "start `birdfeed worker` with the same",
    ),
    "no disk for the spool": (
        {"BIRDFEED_SPOOL_DIR": "/dev/null/spool"},
        1,
        "spool",
        "can't write to the spool's folder /dev/null/spool",
        "set BIRDFEED_SPOOL_DIR",
    ),
    "no spool": ({"BIRDFEED_SPOOL_BYTES": "0"}, 1, "spool", "the spool is off", "unset BIRDFEED_SPOOL_BYTES"),
    "half of Tinybird's settings": (
        {"TINYBIRD_TOKEN": None},
        2,
        "store",
        "TINYBIRD_TOKEN is not set",
        "Set up Tinybird",
    ),
    "no read token": ({"TINYBIRD_READ_TOKEN": None}, 1, "store", "TINYBIRD_READ_TOKEN is not set", "READ scope"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_set_up(setup: pytest.MonkeyPatch, valkey_url: str, how: str) -> None:
    """One line says what is wrong, with what to do; no other line does."""
    variables, code, name, found, advice = BROKEN[how]
    for variable, value in variables.items():
        if value is None:
            setup.delenv(variable)
        else:
            setup.setenv(variable, value.format(port=free_port(), redis=valkey_url.removeprefix("redis://")))

    ended, wrong = examined()

    assert (ended, list(wrong), len(wrong[name])) == (code, [name], 1)
    assert found in wrong[name][0].found
    assert advice in wrong[name][0].advice
    assert "secret" not in str(wrong)


@pytest.mark.parametrize(("kind", "code"), [("nfs4", 1), ("fuse.sshfs", 1), ("ext4", 0)])
def test_a_spool_on_a_network_file_system(setup: pytest.MonkeyPatch, tmp_path: Path, kind: str, code: int) -> None:
    """The innermost mount counts, and its path may have spaces."""
    folder = tmp_path / "of this host"
    folder.mkdir()
    setup.setenv("BIRDFEED_SPOOL_DIR", str(folder / "spool"))
    mounts = tmp_path / "mounts"
    written = str(folder).replace(" ", "\\040")
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/export {written} {kind} rw 0 0\n")
    setup.setattr(look, "_MOUNTS", mounts)

    ended, wrong = examined()

    assert ended == code
    assert [kind in one.found and "a disk of this host" in one.advice for one in wrong.get("spool", [])] == [
        True
    ] * code


def test_a_system_without_a_table_of_mounts(setup: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setup.setattr(look, "_MOUNTS", tmp_path / "none")
    assert examined() == (0, {})


@pytest.mark.parametrize(
    ("facts", "code", "said"),
    [
        (RedisFacts(policy="allkeys-lru", memory_max=10, append_only=True), 1, "evicts keys when it is full"),
        (RedisFacts(policy="noeviction", append_only=False), 1, "a restart loses queued events"),
        (RedisFacts(version=(5, 0)), 2, "birdfeed needs Redis 6.2 or later"),
        (RedisFacts(cluster=True), 2, "is a Cluster, which is not supported"),
    ],
)
def test_an_unsafe_redis(setup: pytest.MonkeyPatch, facts: RedisFacts, code: int, said: str) -> None:
    """A Redis that can lose events is a warning; one that can't work is an error."""
    setup.setattr(look, "redis_facts", lambda connection: facts)

    ended, wrong = examined()

    assert (ended, list(wrong)) == (code, ["redis"])
    assert said in wrong["redis"][0].found
    assert wrong["redis"][0].advice


def test_a_replica(setup: pytest.MonkeyPatch) -> None:
    """It answers, and refuses writes."""
    setup.setattr(look, "_is_replica", lambda client: True)

    assert "is a replica, which takes no events" in examined()[1]["redis"][0].found


def test_silent_workers(setup: pytest.MonkeyPatch, redis: Redis) -> None:
    """A pool that was killed leaves its names behind."""
    beat(redis, datetime(2026, 1, 1, tzinfo=UTC))

    ended, wrong = examined()

    assert (ended, list(wrong)) == (3, ["pool"])


def test_findings_of_status_are_shown_too(setup: pytest.MonkeyPatch, redis: Redis) -> None:
    """With the section of the runbook; and a key of the wrong kind."""
    redis.hset("rq:birdfeed:birdfeed:breaker", "text_generation", '{"reason":"invalid","dead":9,"seen":9,"since":1}')
    code, wrong = examined()

    assert (code, list(wrong)) == (1, ["queue"])
    assert "deferred by its circuit breaker" in wrong["queue"][0].found
    assert wrong["queue"][0].advice == page("Runbook", "A bad deploy")

    redis.set("rq:queue:birdfeed", "text")
    code, wrong = examined()
    assert (code, wrong["queue"][0].state) == (3, "down")
    assert "rq:queue:birdfeed" in wrong["queue"][0].found


def test_a_store_that_does_not_fit(setup: pytest.MonkeyPatch) -> None:
    """Each column, and each token without its scope."""
    refused = Mismatch("image_events", "", "no_scope", "TINYBIRD_TOKEN can't APPEND to it (403)")
    setup.setattr(doctor, "check_schemas", lambda store: [MISSING])
    setup.setattr(doctor, "check_append", lambda store: [refused])

    code, wrong = examined()

    assert (code, list(wrong)) == (1, ["store"])
    assert [one.found for one in wrong["store"]] == [
        "llm_events.cost_exact is missing: costs lose digits",
        "image_events TINYBIRD_TOKEN can't APPEND to it (403)",
    ]
    assert ["birdfeed tinybird check" in wrong["store"][0].advice, "scope" in wrong["store"][1].advice] == [True, True]


@pytest.mark.parametrize(
    ("status", "code", "advice"), [("403 Forbidden", 2, "replace TINYBIRD_TOKEN"), (None, 3, "check TINYBIRD_HOST")]
)
def test_a_store_that_does_not_answer(setup: pytest.MonkeyPatch, status: str | None, code: int, advice: str) -> None:
    """A refused token, and no answer."""
    setup.undo()
    for name in ("BIRDFEED_REDIS_URL", "REDIS_URL"):
        setup.delenv(name, raising=False)
    setup.setenv("TINYBIRD_TOKEN", "append")
    setup.setenv("TINYBIRD_READ_TOKEN", "read")
    with raw_server(answer(b"{}", status=status or "")) as url:
        setup.setenv("TINYBIRD_HOST", url if status else f"http://127.0.0.1:{free_port()}")
        ended, wrong = examined()

    (check,) = wrong["store"]
    assert (ended, {"wrong": 2, "down": 3}[check.state]) == (max(code, 2), code)
    assert advice in check.advice


def test_a_producers_host_needs_no_tinybird(setup: pytest.MonkeyPatch) -> None:
    """No finding, but an event can't be followed from there."""
    for name in ("TINYBIRD_HOST", "TINYBIRD_TOKEN", "TINYBIRD_READ_TOKEN"):
        setup.delenv(name)
    done = CliRunner().invoke(app, ["doctor", "--send"])

    assert done.exit_code == 0
    assert "no Tinybird is configured; a host that runs only producers needs none" in done.stdout
    assert "no event was sent, because something above would stop it" in done.stdout


@pytest.mark.parametrize("arrives", [True, False])
def test_an_event_is_followed(setup: pytest.MonkeyPatch, redis: Redis, arrives: bool) -> None:
    """To its row, or until the timeout."""

    class Store:
        can_read = True

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def query(self, sql: str) -> list[dict[str, str]]:
            assert "request_id = 'doctor-" in sql
            return [{"event_id": "e-1"}] if arrives else []

    setup.setattr(doctor, "tinybird_of", lambda settings: Store())
    setup.setattr(doctor, "ROW_SECONDS", 0.0)
    code, wrong = examined("--send")

    assert redis.llen("rq:queue:birdfeed") == 1
    assert code == (0 if arrives else 3)
    assert list(wrong) == ([] if arrives else ["send"])


def test_a_program_can_check(setup: pytest.MonkeyPatch, valkey_url: str) -> None:
    """With the settings of configure(); wrong ones are a finding, not an exception."""
    assert exit_code(birdfeed.check()) == 0
    birdfeed.configure(redis_url=valkey_url, queue="other")
    assert [check.name for check in birdfeed.check() if check.state == "down"] == ["pool"]

    api.use_client(Client())
    setup.setenv("BIRDFEED_BATCH_EVENTS", "many")
    (check,) = birdfeed.check()
    assert (check.name, check.state) == ("settings", "wrong")
    assert str(check).startswith("settings: wrong: invalid settings, so telemetry is off: BIRDFEED_BATCH_EVENTS")
