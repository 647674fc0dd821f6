"""The console in Chromium: narrow and wide, light and dark, by keyboard.

An outage while a page is open, and a replay by clicks.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.monitoring.minutes import add_counts
from redis import Redis

from tests.support.events import envelope, text
from tests.support.producer.apps.run import Server
from tests.support.servers.browser import WIDTHS, signed_in, wrong_looks
from tests.support.worker.dead import bury, events, work

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A folder to keep screenshots in.
SCREENSHOTS = os.environ.get("BIRDFEED_TESTS_SCREENSHOTS")
#: Every page; KIND and LETTER stand for a kind of failure and a dead letter.
PAGES = {
    "overview": "/",
    "dead": "/dead",
    "filtered": "/dead?reason=invalid&text=model",
    "kind": "/dead/kinds/KIND",
    "letter": "/dead/letters/LETTER",
    "replay-form": "/replays/new?of=filter&reason=invalid",
    "replays": "/replays",
    "costs": "/costs",
    "prices": "/prices",
    "not-found": "/dead/letters/nothing",
}
#: Where to write the picture for the README: set it to docs/pictures to make it again.
PICTURES = os.environ.get("BIRDFEED_TESTS_PICTURES")
LONG = "a-model-with-a-name-that-goes-on-" * 6


def incident(redis: Redis, keys: Keys) -> dict[str, str]:
    """An incident: dead letters of several kinds, hostile and long names, a data source that refuses, counts."""
    now = datetime.now(UTC)
    for minute in range(360):
        counts = {"accepted:text_generation": 900 + 40 * (minute % 7), "written:text_generation": 880}
        if minute < 60:
            counts |= {"written:text_generation": 620, "dead:text_generation:invalid": 280}
        if 20 < minute < 30:
            counts |= {"dropped:text_generation:buffer_full": 120}
        with redis.pipeline() as pipe:
            add_counts(pipe, keys, now.timestamp() - 60 * minute, counts)
            pipe.execute()
    bury(redis, keys, events(40, user="ann"), now=now - timedelta(minutes=100))
    bury(redis, keys, events(300, model=LONG), detail=f"model: {LONG}", now=now - timedelta(minutes=5))
    hostile = "<script>alert(1)</script>\x1b]52;c;aGk=\x07=1+1\u202e"
    bury(redis, keys, [envelope(text(model=hostile, user=hostile))], "quarantined", hostile, now=now)
    *_, letter = bury(redis, keys, events(25, user="bob"), "rejected", "HTTP 400: no", now=now)
    redis.hset(
        keys.birdfeed("destination:llm_events"),
        mapping={
            "backoff_until": str(now.timestamp() + 90), "failures": "3", "since": str(now.timestamp() - 300),
            "reason": "HTTP 503 from api.us-east.example: service unavailable",
        },
    )  # fmt: skip
    for number in range(4):
        name = f"rq:worker:host-{number}"
        redis.sadd(f"rq:workers:{keys.queue}", name)
        beat = now.isoformat().replace("+00:00", "Z")
        redis.hset(
            name, mapping={"hostname": f"worker-{number}", "pid": "4711", "state": "idle", "last_heartbeat": beat}
        )
    trip = {"reason": "invalid", "dead": 80, "seen": 100, "since": now.timestamp() - 60}
    redis.hset(keys.birdfeed("breaker"), "image_generation", json.dumps(trip))
    return {"KIND": letter.fingerprint, "LETTER": letter.id}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_at_every_width(
    browser: "Browser", address: str, filled: Redis, keys: Keys, scheme: Literal["light", "dark"]
) -> None:
    """Nothing is wider than the window, axe-core finds no barrier, and nothing is loaded from another host."""
    marks, found = incident(filled, keys), dict[str, object]()
    with signed_in(browser, address, color_scheme=scheme, reduced_motion="reduce") as page:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for name, path in PAGES.items():
                page.goto(address + path.replace("KIND", marks["KIND"]).replace("LETTER", marks["LETTER"]))
                if wrong := wrong_looks(page, axe=width != WIDTHS[1]):
                    found[f"{name} at {width}"] = wrong
                if SCREENSHOTS:
                    page.screenshot(path=f"{SCREENSHOTS}/{name}-{width}-{scheme}.png", full_page=True)
    assert found == {}


def test_the_picture_of_the_readme(browser: "Browser", address: str, filled: Redis, keys: Keys, tmp_path: Path) -> None:
    """The overview of an incident: the verdict, its causes and the plots."""
    incident(filled, keys)
    with signed_in(browser, address, viewport={"width": 800, "height": 1250}, color_scheme="light") as page:
        page.get_by_text("birdfeed is degraded").wait_for()
        page.locator("svg").first.wait_for()
        picture = page.screenshot(path=Path(PICTURES or tmp_path) / "console.png")
    assert picture.startswith(b"\x89PNG")


def test_an_outage_while_a_page_is_open(
    browser: "Browser", address: str, server: Server, filled: Redis, keys: Keys
) -> None:
    """Redis hangs and comes back: the page shows each without a reload by the user."""
    incident(filled, keys)
    with signed_in(browser, address) as page:
        page.get_by_text("birdfeed is degraded").wait_for()
        looked = page.locator("time").inner_text()
        page.wait_for_function("before => document.querySelector('time').textContent !== before", arg=looked)

        with server.frozen():
            page.get_by_text("Redis doesn't answer").wait_for(timeout=60_000)
        page.get_by_text("birdfeed is degraded").wait_for(timeout=60_000)
        filled.delete(keys.birdfeed("breaker"))
        page.get_by_role("button", name="Resume image_generation").wait_for(state="detached", timeout=60_000)


def test_a_replay_by_clicks(browser: "Browser", address: str, filled: Redis, keys: Keys) -> None:
    """From the overview to the result: filter, tick, dry run, replay; the events are in the queue."""
    incident(filled, keys)
    with signed_in(browser, address) as page:
        page.get_by_role("link", name="Dead letters", exact=True).click()
        page.get_by_label("Reason").select_option("rejected")
        page.get_by_role("button", name="Filter").click()
        page.get_by_label("All on this page").check()
        page.get_by_role("button", name="Replay the selected ones").click()
        page.get_by_role("checkbox", name="Try one event").uncheck()
        page.get_by_role("button", name="Dry run").click()
        page.get_by_text("25 events of 1 dead letter would go back").wait_for()
        page.get_by_role("link", name="Replay them").click()
        page.get_by_role("checkbox", name="Try one event").uncheck()
        page.get_by_role("button", name="Replay", exact=True).click()
        page.get_by_text("25 events of 1 dead letter are back in the queue").wait_for()
        page.get_by_role("link", name="Replays", exact=True).click()
        page.get_by_text("via console").first.wait_for()
    assert len(work(filled, keys)) == 25


def test_by_keyboard(browser: "Browser", address: str, filled: Redis, keys: Keys) -> None:
    """Tab reaches every control in visual order, the focus is visible, and Enter activates the control."""
    incident(filled, keys)
    with signed_in(browser, address) as page:

        def focused() -> str:
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
            return str(page.evaluate("document.activeElement.textContent")).strip()

        assert [focused() for _ in range(4)] == ["Skip to content", "birdfeed", "Overview", "Dead letters"]
        page.keyboard.press("Enter")
        page.wait_for_url(f"{address}/dead")
        page.get_by_label("All on this page").focus()
        page.keyboard.press("Space")
        assert page.locator('input[name="letter"]:checked').count() == page.locator('input[name="letter"]').count() > 1
        page.get_by_role("button", name="Replay the selected ones").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Dry run").focus()
        page.keyboard.press("Enter")
        page.get_by_text("Done.").wait_for()
