"""`birdfeed forget`: afterwards no spool, job, dead letter, log entry or row has the person."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from birdfeed.encoding.batch import pack
from birdfeed.encoding.redact import pseudonym
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from birdfeed_cli.app import app
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.envelope import encode_event
from birdfeed_worker.dead_letters.audit import entries, note
from birdfeed_worker.monitoring.ledger import read_ledger
from typer.testing import CliRunner, Result

from tests.support.events import envelope, text
from tests.support.redis_contents import all_of
from tests.support.rows import row
from tests.support.servers.system import System
from tests.support.worker.dead import bury, work

KEY = "a key for tests"
ANN, BOB = pseudonym(KEY.encode(), "ann@example.com"), pseudonym(KEY.encode(), "bob")


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """Two persons' events as rows, in quarantine, queued, dead, spooled, and in the log of dead letters."""
    with System(valkey_url, sandbox, tmp_path, BIRDFEED_USER_HMAC_KEY=KEY) as system:
        system.redis.flushall()
        events = [("text_generation", text(user=user, request_id=user)) for user in ("ann@example.com", "bob") * 3]
        dice, when = random.Random(5), datetime.now(UTC) - timedelta(hours=1)
        stored = [{**row(dice, "text_generation", when), "user": user, "username": ""} for user in (ANN, BOB) * 3]
        answer = httpx.post(
            f"{sandbox.url}/v0/events?name=llm_events&wait=true",
            content=b"\n".join(map(orjson.dumps, stored)),
            headers={"Authorization": f"Bearer {sandbox.append_token}"},
            timeout=60,
        )
        assert answer.json() == {"successful_rows": 6, "quarantined_rows": 0}
        bury(system.redis, system.keys, [envelope(text(user=user)) for user in (ANN, BOB)])
        system.send(events)
        for name, value in system.environment.items():
            monkeypatch.setenv(name, value)
        lines = [encode_event(envelope(text(user=user))) for user in (ANN, BOB)]
        Spool.of(ProducerSettings().options()).add([pack("text_generation", lines, compression=1)])
        note(system.redis, system.keys, "purge", choice={"user": ANN})
        yield system


def run(*words: str, **more: Any) -> Result:
    """`birdfeed forget`, with the settings in the environment."""
    return CliRunner().invoke(app, ["forget", *words], **more)


def test_a_person_is_erased_everywhere(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the raw name and the hash key in the environment; no event of the other person is deleted.

    The ledger balances.
    """
    before = all_of(system.redis)
    assert (ANN in before, BOB in before) == (True, True)

    planned = run("ann@example.com", "--dry-run", "--json")
    refused = run("ann@example.com")
    printed = run("-", "--yes", input="ann@example.com\n")
    again = json.loads(run(ANN, "--dry-run", "--json").stdout)

    found = json.loads(planned.stdout)
    assert planned.exit_code == 0
    assert {name: found[name] for name in ("spool", "queue", "scheduled", "dead", "in_flight", "log_entries")} == {
        "spool": 1, "queue": 3, "scheduled": 0, "dead": 1, "in_flight": 0, "log_entries": 1,
    }  # fmt: skip
    assert [(one["table"], one["rows"]) for one in found["tinybird"] if one["rows"]] == [("llm_events", 3)]
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert printed.exit_code == 1, "the rows in Tinybird are still there"
    assert "curl -X POST" in printed.stdout
    assert "$TINYBIRD_DELETE_TOKEN" in printed.stdout
    assert [again[name] for name in ("spool", "queue", "dead", "log_entries")] == [0, 0, 0, 0]

    monkeypatch.setenv("TINYBIRD_DELETE_TOKEN", system.sandbox.admin_token)
    done = run("ann@example.com", "--execute", "--yes", "--json")

    assert (done.exit_code, json.loads(done.stdout)["remaining"]) == (0, []), done.stdout
    assert system.rows("user") == {BOB: 3}
    after = all_of(system.redis)
    assert ANN not in after
    assert "ann@example.com" not in after
    assert CliRunner().invoke(app, ["spool", "drain"]).exit_code == 0
    left = [item.envelope.data["user"] for item in work(system.redis, system.keys) if item.envelope]
    assert left == [BOB] * (3 + 1)
    ledger = read_ledger(system.redis, system.keys)
    assert (ledger.balanced, ledger.total.dropped) == (True, {"forgotten": 5})
    last, first, *_ = entries(system.redis, system.keys)
    assert [(one.action, one.details["rows"]) for one in (first, last)] == [("forget", 0), ("forget", 3)]
