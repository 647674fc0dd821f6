"""The console in Chromium: a page that is signed in, and checks of a page's layout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.support.servers.console import TOKEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: A phone, a tablet, a large screen.
WIDTHS = (360, 800, 1600)


@contextmanager
def signed_in(browser: "Browser", address: str, **options: Any) -> "Iterator[Page]":
    """A page after a new sign-in; it may request nothing from another host, and may have no error."""
    context = browser.new_context(**options)
    page, wrong = context.new_page(), list[str]()
    host = urlsplit(address).netloc
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: wrong.append(one.url) if urlsplit(one.url).netloc != host else None)
    page.goto(f"{address}/sign-in")
    page.get_by_label("The console's token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/")
    yield page
    # A page that answers 404 or 503 is one that the test asked for.
    assert [one for one in wrong if not one.startswith("Failed to load resource: the server responded")] == []
    context.close()


def wrong_looks(page: "Page", *, axe: bool = True) -> list[object]:
    """Elements that are wider than the window, and accessibility faults that axe-core finds."""
    found: list[object] = []
    page.wait_for_load_state()  # the elements are there before the style sheet is
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        found.append(f"{wide} px too wide")
    if axe:
        from axe_playwright_python.sync_playwright import Axe

        found += [
            (one["id"], [node["html"][:160] for node in one["nodes"]][:3])
            for one in Axe().run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    return found
