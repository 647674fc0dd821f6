"""The documentation site in Chromium: every page at phone and desktop width, in light and dark colours."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest

from tests.release.test_site import build, copied
from tests.support.servers.chromium import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A folder to keep screenshots in.
SCREENSHOTS = os.environ.get("BIRDFEED_TESTS_SCREENSHOTS")
PHONE, DESK = 360, 1440
#: The elements of a page's own text that stick out of the window, though they do not scroll in a box of their own.
STICKING_OUT = """
() => [...document.querySelectorAll(".md-content *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.width || box.right <= window.innerWidth + 1) return false;
  for (let above = one.parentElement; above; above = above.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(above).overflowX)) return false;
  return true;
}).map((one) => one.outerHTML.slice(0, 120)).slice(0, 3)
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of the built site, and its pages."""
    project = copied(tmp_path_factory.mktemp("site"))
    result = build(project)
    assert result.returncode == 0, result.stderr
    folder = project / "site"
    pages = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", pages
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium."""
    with chromium() as browser:
        yield browser


@contextmanager
def watched(browser: "Browser", address: str, **options: Any) -> "Iterator[tuple[Page, list[str]]]":
    """A page, and its faults: an error in the console, a request to another host."""
    context = browser.new_context(**options)
    page, wrong, host = context.new_page(), list[str](), urlsplit(address).netloc
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: wrong.append(one.url) if urlsplit(one.url).netloc not in ("", host) else None)
    yield page, wrong
    context.close()


def outside(page: "Page") -> list[str]:
    """The parts of a page outside the window."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*([f"{wide} px too wide"] if wide > 0 else []), *page.evaluate(STICKING_OUT)]


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESK, "dark")])
def test_every_page(
    browser: "Browser", site: tuple[str, list[str]], width: int, scheme: Literal["light", "dark"]
) -> None:
    """No part is outside the window, nothing is loaded from another host, and there is no error."""
    address, pages = site
    found = {}
    options = {"color_scheme": scheme, "reduced_motion": "reduce", "viewport": {"width": width, "height": 900}}
    with watched(browser, address, **options) as (page, wrong):
        for path in pages:
            page.goto(f"{address}/{path}")
            if bad := [*wrong, *outside(page)]:
                found[path] = bad
            wrong.clear()
            if SCREENSHOTS:
                name = f"site-{path.removesuffix('.html').replace('/', '-')}-{width}.png"
                page.screenshot(path=Path(SCREENSHOTS) / name, full_page=True)

    assert len(pages) > 30
    assert found == {}


def test_the_search_finds_a_page(browser: "Browser", site: tuple[str, list[str]]) -> None:
    """Without the network: the index is part of the site."""
    address, _ = site
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    page.keyboard.press("/")
    page.keyboard.type("fingerprint")

    page.locator('.md-search-result__link[href*="glossary"]').first.wait_for(state="attached", timeout=60_000)

    page.close()


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("<p style='width: 900px'>wide</p>", "px too wide"),
        ("<script>nothing()</script>", "nothing is not defined"),
        ("<img src='http://127.0.0.2:9/x.png'>", "http://127.0.0.2:9/x.png"),
    ],
)
def test_faults_of_a_page_are_found(browser: "Browser", tmp_path: Path, planted: str, complaint: str) -> None:
    """The check itself."""
    (tmp_path / "index.html").write_text(f"<!doctype html><meta charset=utf-8><div class=md-content>{planted}</div>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with watched(browser, address, viewport={"width": PHONE, "height": 900}) as (page, wrong):
            page.goto(f"{address}/index.html")
            wrong += outside(page)
        server.shutdown()

    assert complaint in "\n".join(wrong)
