"""The sandbox, used by clients that are not part of this project: Tinybird's own SDK and a community SDK."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox import Sandbox
from uuid_utils import uuid7

from tests.support.tools import environment_with
from tests.support.wait import eventually

pytestmark = pytest.mark.slow

#: Each in its own environment, with what it really imports.
PINS = {
    "tinybird-sdk": ("tinybird-sdk==0.4.0",),
    "tinybird-python-sdk": (
        "tinybird-python-sdk==0.3.7",
        "requests==2.34.2",
        "urllib3==2.8.0",
        "idna==3.20",
        "certifi==2026.10.18",
        "charset-normalizer==3.5.2",
    ),
}


def rows(count: int) -> list[dict[str, Any]]:
    """Rows as another client would write them, one minute old: the fields without a default, and a few more."""
    now = (datetime.now(UTC) - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    return [
        {
            "event_id": str(uuid7()),
            "event_type": "text_generation",
            "occurred_at": now,
            "enriched_at": now,
            "start_time": now,
            "end_time": now,
            "message_id": f"m{number}",
            "response": {"id": f"r{number}"},
            "model": "openai",
        }
        for number in range(count)
    ]


def ask(which: str, store: Sandbox, given: list[dict[str, Any]]) -> dict[str, Any]:
    """The results that the SDK's user gets."""
    python = environment_with(f"birdfeed-{which}", PINS[which])
    script = Path(__file__).parent / "scripts" / "sdk_script.py"
    done = subprocess.run(
        [str(python), str(script), which, store.url, store.append_token, store.read_token],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def written(store: Sandbox) -> int:
    return int(store.sql("SELECT count() AS n FROM llm_events")[0]["n"])


def test_tinybirds_own_sdk(store: Sandbox) -> None:
    """Ingest, batch, SQL and an endpoint; and its errors for what is refused."""
    told = ask("tinybird-sdk", store, rows(5))

    assert told["ingest"] == {"successful_rows": 1, "quarantined_rows": 0}
    assert told["batch"] == {"successful_rows": 4, "quarantined_rows": 0}
    assert [{name: int(value) for name, value in row.items()} for row in told["sql"]] == [{"n": 5, "ids": 5}]
    assert sum(row["requests"] for row in told["pipe"]) == 5
    assert (told["wrong token"], told["no such table"]) == (403, 404)
    assert (told["bad sql"], told["no such pipe"]) == (400, 404)


def test_the_communitys_sdk(store: Sandbox) -> None:
    """Buffered writes without wait=true, SQL and an endpoint. The sandbox has no lists of data sources and pipes."""
    told = ask("tinybird-python-sdk", store, rows(7))

    eventually(lambda: written(store) == 7, what="the rows are there")
    assert {"name", "requests", "cost_usd"} <= set(told["pipe"][0])
    assert (told["datasources"], told["pipes"]) == (404, 404)
