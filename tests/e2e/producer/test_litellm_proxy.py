"""LiteLLM's proxy as an operator runs it: its own environment, birdfeed's producer alone, the callback by dotted path.

LiteLLM pins another version of rq than birdfeed's workers need. Its times are local, so it runs in two time zones.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from birdfeed.testing import CapturedEvent
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.testing import priced
from redis import Redis

from tests.support.commands import clean_environment
from tests.support.producer.apps.examples import provider_running
from tests.support.producer.queued import events_in
from tests.support.repository import DATA, ROOT
from tests.support.servers.redis_servers import free_port
from tests.support.tools import environment_with
from tests.support.wait import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: LiteLLM with what its proxy imports, and what birdfeed's producer needs.
PINS: Final = tuple((DATA / "litellm_proxy.txt").read_text().split())
KEY: Final = "sk-0123456789abcdef0123456789abcdef"
PROMPT: Final = "name six birds of the sea please"
CONFIGURATION: Final = """
model_list:
  - model_name: small
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}/v1", api_key: k}}
litellm_settings:
  callbacks: birdfeed.integrations.litellm.birdfeed_logger
  num_retries: 0
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with provider_running(tmp_path_factory.mktemp("provider")) as url:
        yield url


@contextmanager
def proxy(folder: Path, provider: str, redis_url: str, zone: str) -> Iterator[httpx.Client]:
    """A function with which clients send requests to the proxy."""
    python = environment_with("litellm-proxy", PINS)
    configuration = folder / "config.yaml"
    configuration.write_text(CONFIGURATION.format(url=provider))
    port = free_port()
    environment = {
        **clean_environment(),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "schemas", ROOT / "producer"))),
        "BIRDFEED_REDIS_URL": redis_url,
        "BIRDFEED_SPOOL_DIR": str(folder),
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TZ": zone,
    }
    command = [str(python.with_name("litellm")), "--config", str(configuration), "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, cwd=folder, stdout=log, stderr=log)
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
                eventually(lambda: lives(client, process), what="the proxy", within=300)
                yield client
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
            process.wait()


def lives(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the proxy has ended"
    try:
        return client.get("/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False


def row_of(line: dict[str, Any]) -> dict[str, Any]:
    return priced(
        CapturedEvent(
            event_id=line["event_id"],
            event_type="text_generation",
            occurred_at=datetime.fromisoformat(line["occurred_at"]),
            data=line["data"],
        )
    )


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_whole_answer_a_stream_and_a_failure(
    provider: str, valkey_url: str, redis: Redis, tmp_path: Path, zone: str
) -> None:
    """One event each, with the present time, a plausible duration, and the tokens that the provider counted."""
    keys = Keys("rq", "birdfeed")
    asked = {"model": "small", "messages": [{"role": "user", "content": PROMPT}], "user": "ada"}
    with proxy(tmp_path, provider, valkey_url, zone) as client:
        began = time.time()
        whole = client.post("/v1/chat/completions", json=asked)
        eventually(lambda: len(events_in(redis, keys)) == 1, what="the answer's event", within=120)
        stream = client.post("/v1/chat/completions", json={**asked, "stream": True})
        eventually(lambda: len(events_in(redis, keys)) == 2, what="the stream's event", within=120)
        refused = client.post("/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": "fail"}]})
        eventually(lambda: len(events_in(redis, keys)) == 3, what="the failure's event", within=120)
        took = time.time() - began
    lines = sorted(events_in(redis, keys), key=lambda line: str(line["occurred_at"]))
    rows = [row_of(line) for line in lines]

    assert (whole.status_code, stream.status_code, refused.status_code) == (200, 200, 400)
    assert "birds" not in str(lines)
    for row in rows:
        assert datetime.fromtimestamp(began - 1, UTC) <= row["timestamp"] <= row["end_time"] <= datetime.now(UTC)
        assert 0 < row["duration"] <= took * 1_000
        assert (row["end_time"] - row["timestamp"]).total_seconds() * 1_000 == pytest.approx(row["duration"], abs=2)
        assert not row["time_clamped"]
    assert [(row["response_status"], row["stream"], row["user"], row["cost_status"]) for row in rows] == [
        ("success", False, "ada", "priced"),
        ("success", True, "ada", "priced"),
        ("error", False, "ada", "no_usage"),
    ]
    assert [
        (row["prompt_text_tokens"], row["prompt_cached_tokens"], row["completion_text_tokens"]) for row in rows
    ] == [(4, 3, 7), (4, 3, 7), (0, 0, 0)]
    assert (rows[2]["error_type"], rows[2]["error_code"]) == ("BadRequestError", "invalid_prompt")
    assert rows[0]["request_id"] == whole.headers["x-litellm-call-id"]
