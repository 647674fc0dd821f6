"""OpenTelemetry's own instrumentation of the OpenAI SDK, beside birdfeed's integration: the rows of the same calls.

docs/how-to/sdks.md lists the columns in which they differ.
"""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from birdfeed.testing import CapturedEvent
from birdfeed_worker.testing import priced

from tests.support.commands import clean_environment
from tests.support.producer.apps.examples import provider_running
from tests.support.repository import DOCS
from tests.support.tools import environment_with

pytestmark = pytest.mark.slow

#: What the instrumentation needs besides the packages of our environment.
PINS: Final = (
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    "opentelemetry-instrumentation==0.66b2",
    "opentelemetry-util-genai==1.0b0",
    "wrapt==2.5.2",
)
APP: Final = Path(__file__).parents[2] / "support" / "producer" / "apps" / "traced.py"
#: Columns that differ for any two events.
EACH_ITS_OWN: Final = {"event_id", "occurred_at", "timestamp", "end_time", "duration", "enriched_at", "response_id"}
#: Columns for which spans have more data.
ONLY_SPANS: Final = {"trace_id", "span_id"}


def rows(how: str, url: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of the program's calls: a whole answer, a stream, and a prompt that is refused."""
    done = subprocess.run(
        [sys.executable, str(APP), how, url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    events = [
        CapturedEvent(
            event_id=event_id,
            event_type=event_type,
            occurred_at=datetime.fromisoformat(at),
            data=data,
            dropped_fields=dropped,
        )
        for event_id, event_type, at, data, dropped in map(json.loads, done.stdout.splitlines())
    ]
    assert "birds" not in done.stdout
    return [priced(event) for event in events]


def test_rows_of_spans_equal_those_of_the_integration(tmp_path: Path) -> None:
    """In every column for which the convention and this instrumentation have a value; the docs list the others."""
    python = environment_with("openai-instrumentation", PINS)
    [packages] = python.parents[1].glob("lib/python*/site-packages")
    environment = clean_environment()
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(packages)])
    with provider_running(tmp_path) as url:
        direct = rows("direct", url, environment)
        traced = rows("traced", url, environment)

    assert [row["response_status"] for row in traced] == [row["response_status"] for row in direct]
    assert [row["response_status"] for row in direct] == ["success", "success", "error"]
    differing = {
        name
        for one, other in zip(direct, traced, strict=True)
        for name in one
        if name not in EACH_ITS_OWN | ONLY_SPANS and one[name] != other[name]
    }
    listed = re.search(r"rows of spans made by[^:]*:([^.]*)\.", (DOCS / "how-to" / "sdks.md").read_text())
    assert listed is not None
    assert sorted(re.findall(r"`(\w+)`", listed[1])) == sorted(differing)
    assert [(row["cost_status"], row["usage_status"]) for row in traced[:2]] == [("partial", "incomplete")] * 2
    assert [row["cost_status"] for row in direct[:2]] == ["priced"] * 2
    assert [row["prompt_text_tokens"] for row in traced[:2]] == [
        row["prompt_text_tokens"] + row["prompt_cached_tokens"] for row in direct[:2]
    ]
    assert all(row["trace_id"] and row["span_id"] for row in traced)
