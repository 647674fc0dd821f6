"""A hundred thousand dead letters in the console: no page reads them all, and its link goes on."""

import re

import httpx
import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.servers.console import TOKEN
from tests.support.worker.dead import bury_many

#: A page reads a letter by one HMGET: those of its list, those that it groups by kind of failure, and status its own.
MOST_READ = 25_000


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_dead_letters(address: str, filled: Redis, keys: Keys) -> None:
    """Each page is there in seconds, whatever the filter, and says how many letters it looked at."""
    bury_many(filled, keys, 100_000)
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=60) as client:
        client.post("/sign-in", data={"token": TOKEN})
        for path in ("/", "/dead", "/dead?reason=quarantined", "/dead?user=u3", "/dead?text=nowhere"):
            before = filled.info("commandstats")["cmdstat_hmget"]["calls"]
            answer = client.get(path)
            read = filled.info("commandstats")["cmdstat_hmget"]["calls"] - before
            assert (answer.status_code, answer.elapsed.total_seconds() < 30, read < MOST_READ) == (200, True, True), (
                path
            )
        assert "None among the 5,000 dead letters" in answer.text
        [after] = re.findall(r'after=([^"]+)" rel="next"', answer.text)
        assert "None among the 5,000 dead letters" in client.get(f"/dead?text=nowhere&after={after}").text
