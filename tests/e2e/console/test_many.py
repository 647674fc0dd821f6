"""A hundred thousand dead letters in the console: no page reads them all; each links to the next."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.apps.run import Server
from tests.support.servers.browser import signed_in, wrong_looks
from tests.support.servers.console import TOKEN
from tests.support.worker.dead import bury_many

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: A page reads a letter by one HMGET: those of its list, those that it groups by kind of failure, and status reads
#: some, too.
MOST_READ = 25_000


pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def many(server: Server) -> Iterator[Redis]:
    """A hundred thousand dead letters in the Redis of the console."""
    with server.client() as client:
        client.flushall()
        bury_many(client, Keys("rq", "birdfeed"), 100_000)
        yield client


def test_in_chromium(browser: "Browser", address: str, many: Redis) -> None:
    """By clicks: the first page, a filter, the next page, a dry run of a thousand; each within seconds."""
    with signed_in(browser, address) as page:
        page.set_default_timeout(30_000)
        page.get_by_text("100,000").first.wait_for()
        assert wrong_looks(page) == []
        page.get_by_role("link", name="Dead letters", exact=True).click()
        page.get_by_label("Reason").select_option("quarantined")
        page.get_by_label("User").fill("u4")
        page.get_by_role("button", name="Filter").click()
        page.locator('input[name="letter"]').first.wait_for()
        assert wrong_looks(page) == []
        page.locator('a[rel="next"]').click()
        page.locator('input[name="letter"]').first.wait_for()
        page.goto(f"{address}/replays/new?of=filter&reason=quarantined")
        page.get_by_text("25,000").first.wait_for()
        page.get_by_label("Maximum number of events").fill("1000")
        page.get_by_role("button", name="Dry run").click()
        page.get_by_text("1,000 events of 1,000 dead letters would go back").wait_for()


def hmgets(redis: Redis) -> int:
    """The number of HMGET commands; a server that ran none yet doesn't list the command."""
    return int(redis.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"])


def test_a_hundred_thousand_dead_letters(address: str, many: Redis) -> None:
    """Each page is shown within seconds, with every filter, and says how many letters it read."""
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=60) as client:
        client.post("/sign-in", data={"token": TOKEN})
        for path in ("/", "/dead", "/dead?reason=quarantined", "/dead?user=u3", "/dead?text=nowhere"):
            before = hmgets(many)
            answer = client.get(path)
            read = hmgets(many) - before
            assert (answer.status_code, answer.elapsed.total_seconds() < 30, read < MOST_READ) == (200, True, True), (
                path
            )
        assert "None among the 5,000 dead letters" in answer.text
        [after] = re.findall(r'after=([^"]+)" rel="next"', answer.text)
        assert "None among the 5,000 dead letters" in client.get(f"/dead?text=nowhere&after={after}").text
