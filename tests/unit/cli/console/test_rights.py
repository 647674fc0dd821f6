"""The rights of a Redis user that docs/how-to/operator.md gives to operators are enough for every page and action."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.repository import DOCS
from tests.support.servers.console import TOKEN, form_key
from tests.support.wait import eventually
from tests.support.worker.dead import bury, events

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


@pytest.fixture
def operator(redis: Redis, valkey_url: str) -> Iterator[Redis]:
    """A connection as that user."""
    found = re.search(r"ACL SETUSER (birdfeed-operator .*)", (DOCS / "how-to" / "operator.md").read_text())
    assert found is not None
    redis.execute_command("ACL", "SETUSER", *found[1].split())
    with Redis.from_url(valkey_url.replace("redis://", "redis://birdfeed-operator:PASSWORD@")) as connection:
        yield connection
    redis.execute_command("ACL", "DELUSER", "birdfeed-operator")


def test_the_operators_rights_are_enough(console: Make, operator: Redis, redis: Redis, keys: Keys) -> None:
    """Pages, filters, a replay and a resume; also with a job that rq failed by itself."""
    *_, letter = bury(redis, keys, events(3), each=True)
    client = console(TOKEN, connection=operator)
    pages = ("/", "/dead?text=model", f"/dead/kinds/{letter.fingerprint}", f"/dead/letters/{letter.id}", "/replays")

    found = {path: client.get(path).status_code for path in pages}
    key = form_key(client.get("/replays/new?of=filter").text)
    replay = client.post("/replays", data={"form_key": key, "of": "filter", "how": "replay"})
    resume = client.post("/resume", data={"form_key": key, "name": "text_generation"})

    assert found == dict.fromkeys(pages, 200)
    assert (replay.status_code, resume.status_code) == (200, 200)
    eventually(lambda: redis.zcard(keys.failed) == 0, what="the events are back")
    eventually(lambda: "Done." in client.get(replay.url.path).text, what="the replay ends")
    redis.zadd(keys.failed, {"dead-x": 5_000_000_000})
    assert client.get("/dead").status_code == 200
