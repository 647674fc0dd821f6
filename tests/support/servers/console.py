"""The console in its own process, and its pages, as tests read them."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.commands import BIRDFEED, clean_environment

TOKEN = "a-token-of-the-tests"


@contextmanager
def console_process(redis_url: str, folder: Path, **settings: str) -> Iterator[str]:
    """`birdfeed console` on a free port; yields its address."""
    environment = {
        **clean_environment(),
        "BIRDFEED_REDIS_URL": redis_url,
        "BIRDFEED_CONSOLE_TOKEN": TOKEN,
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    with (folder / "console.log").open("a+") as log:
        process = subprocess.Popen(
            [*BIRDFEED, "console", "--port", "0"], env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith("birdfeed console on http://127.0.0.1:"), said + process.stderr.read()
            yield said.split()[3].rstrip("/")
        finally:
            process.terminate()
            log.write(process.communicate(timeout=60)[1])
        assert process.returncode == 0, "it ended its replays and connections, then itself"


def every_page(address: str, token: str = "") -> Mapping[str, str]:
    """Path → text of each page that can be reached by links from the first one, with the headers.

    Signed in with `token`.
    """
    pages: dict[str, str] = {}
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=60, trust_env=False) as client:
        if token:
            assert client.post("/sign-in", data={"token": token}).status_code == 303
        wanted = ["/", "/replays/new"]
        while wanted:
            path = wanted.pop()
            answer = client.get(path)
            pages[path] = f"{answer.headers}\n{answer.text}"
            for link in re.findall(r'(?:href|src)="(/[^"]*)"', answer.text):
                there = urlsplit(link.replace("&amp;", "&"))
                if (target := there._replace(fragment="").geturl()) not in {*pages, *wanted} and len(pages) < 200:
                    wanted.append(target)
    return pages


def words(page: str) -> str:
    """A page's text without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def form_key(page: str) -> str:
    """The secret in a page's forms."""
    found = re.search(r'name="form_key" value="([^"]+)"', page)
    assert found is not None
    return found[1]
