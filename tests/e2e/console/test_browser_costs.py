"""The console's pages of costs and prices in Chromium, with a read token and rows in the store."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.producer.apps.run import Server
from tests.support.servers.browser import WIDTHS, signed_in, wrong_looks
from tests.support.servers.console import console_process
from tests.support.servers.system import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCREENSHOTS = os.environ.get("BIRDFEED_TESTS_SCREENSHOTS")
USAGE = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
#: Its name is longer than a narrow screen is wide, and a browser could parse it as markup.
HOSTILE = "<b>nobody-sells-this</b>-" + "and-its-name-goes-on-" * 8


@pytest.fixture(scope="module")
def with_rows(sandbox_process: Sandbox, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A console that may read rows: two models and two users, one model without a price."""
    sandbox_process.clear_faults()
    sandbox_process.reset()
    folder = tmp_path_factory.mktemp("costs")
    with System(server.url, sandbox_process, folder) as system:
        system.redis.flushall()
        system.start_pool(1)
        models = [("gpt-4o", "ann"), ("gpt-4o", "bob"), ("gpt-4o-mini", "ann"), (HOSTILE, "bob")]
        system.send(
            ("text_generation", text(request_id=f"r{n}", model=model, model_used=model, user=user, usage=USAGE))
            for n, (model, user) in enumerate(models)
        )
        system.drained()
        settings = {"TINYBIRD_HOST": sandbox_process.url, "TINYBIRD_READ_TOKEN": sandbox_process.read_token}
        with console_process(server.url, folder, **settings) as address:
            yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_costs_and_prices(browser: "Browser", with_rows: str, scheme: Literal["light", "dark"]) -> None:
    """By clicks, at three widths: the sums are the store's, and names are text."""
    found = dict[str, list[object]]()
    with signed_in(browser, with_rows, color_scheme=scheme, reduced_motion="reduce") as page:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"{with_rows}/")
            page.get_by_role("link", name="Costs", exact=True).click()
            page.get_by_role("heading", name="Cost by day and model").wait_for()
            # Twice a million tokens at 2.50 dollars.
            assert "$5.00" in page.get_by_role("region", name="By model").inner_text()
            page.get_by_role("link", name="user", exact=True).click()
            page.get_by_role("heading", name="Cost by day and user").wait_for()
            assert "ann" in page.locator("ul.legend").inner_text()
            found[f"costs {width}"] = wrong_looks(page)
            picture(f"costs-{width}-{scheme}", page)
            page.get_by_role("link", name="30 d").click()
            page.get_by_role("link", name="which").click()
            page.get_by_role("heading", name="Models without a full price").wait_for()
            assert HOSTILE in page.inner_text("main")
            assert page.get_by_role("link", name="30 d").get_attribute("aria-current") == "true"
            found[f"prices {width}"] = wrong_looks(page)
            picture(f"prices-{width}-{scheme}", page)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def picture(name: str, page: object) -> None:
    """Save a screenshot if BIRDFEED_TESTS_SCREENSHOTS names a folder."""
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=True)  # type: ignore[attr-defined]
