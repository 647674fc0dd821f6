"""The picture of `birdfeed report --html` in the README: the page of 200 requests, in Chromium.

With BIRDFEED_TESTS_PICTURES=docs/pictures the pictures of the README are made again, that of the console by
tests/e2e/console/test_browser.py.
"""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest
from birdfeed_cli.report.html import page
from birdfeed_cli.report.query import read_report
from birdfeed_sandbox import Sandbox
from birdfeed_schemas.datafiles import datasources
from birdfeed_worker.tinybird.client import Tinybird

from tests.support import rows as made
from tests.support.servers.chromium import chromium

pytestmark = pytest.mark.slow

#: Names that a reader knows, in place of the rows' own.
MODELS = ("gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash")


def test_the_picture_of_the_report(store: Sandbox, tmp_path: Path) -> None:
    """It fits the window, and shows costs by model with two plots."""
    dice, now = random.Random(4), datetime.now(UTC)
    moments = [now - timedelta(seconds=60 + 400 * number) for number in range(200)]
    rows = [{**row, "model": dice.choice(MODELS)} for row in made.sample(dice, "text_generation", moments)]
    httpx.post(
        f"{store.url}/v0/events",
        params={"name": "llm_events", "wait": "true"},
        content=b"\n".join(map(orjson.dumps, rows)),
        headers={"Authorization": f"Bearer {store.append_token}"},
        timeout=60,
    ).raise_for_status()
    with Tinybird(store.url, "", store.read_token) as tinybird:
        day = (now - timedelta(days=1), now)
        report = read_report(tinybird.query, list(datasources()), *day, ["model"], ZoneInfo("UTC"))
    (tmp_path / "report.html").write_text(page(report))

    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 800, "height": 900}, color_scheme="light")
        shown.goto((tmp_path / "report.html").as_uri())
        wide = shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        folder = os.environ.get("BIRDFEED_TESTS_PICTURES", str(tmp_path))
        shown.screenshot(path=Path(folder) / "report.png")
        text = shown.inner_text("body")

    assert wide == 0
    assert page(report).count("<svg") == 2
    assert [model for model in MODELS if model not in text] == []
