"""The documentation site in Chromium: every page on a phone and on a desk, in light and in dark colours."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal
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
    """Serves files, and says nothing."""

    def log_message(self, *args: object) -> None:
        """Nothing."""


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


def wrong_with(page: "Page", address: str, path: str, width: int) -> list[str]:
    """What is wrong with a page at a width: sideways scrolling, a request of another host, an error in the console."""
    wrong: list[str] = []
    host = urlsplit(address).netloc
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: wrong.append(one.url) if urlsplit(one.url).netloc not in ("", host) else None)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/{path}")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        wrong.append(f"{wide} px too wide")
    return [*wrong, *page.evaluate(STICKING_OUT)]


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESK, "dark")])
def test_every_page(
    browser: "Browser", site: tuple[str, list[str]], width: int, scheme: Literal["light", "dark"]
) -> None:
    """Nothing of it is outside the window, nothing comes from another host, and nothing goes wrong in it."""
    address, pages = site
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    found = {}
    for path in pages:
        page = context.new_page()
        if wrong := wrong_with(page, address, path, width):
            found[path] = wrong
        if SCREENSHOTS:
            name = f"site-{path.removesuffix('.html').replace('/', '-')}-{width}.png"
            page.screenshot(path=Path(SCREENSHOTS) / name, full_page=True)
        page.close()
    context.close()

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
def test_what_is_wrong_is_found(browser: "Browser", tmp_path: Path, planted: str, complaint: str) -> None:
    """The check itself."""
    (tmp_path / "index.html").write_text(f"<!doctype html><meta charset=utf-8><div class=md-content>{planted}</div>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        wrong = wrong_with(page, f"http://127.0.0.1:{server.server_port}", "index.html", PHONE)
        page.close()
        server.shutdown()

    assert complaint in "\n".join(wrong)
