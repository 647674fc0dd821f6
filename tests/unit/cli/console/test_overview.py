"""The first page: what `status` and `ledger` show, with the commands that fix it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from birdfeed_schemas.safety.untrusted import visible
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.dead_letters.query import DeadLetterInfo
from birdfeed_worker.monitoring.minutes import add_counts
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.redis_time import redis_time
from redis import Redis

from tests.support.events import envelope, text
from tests.support.servers.console import TOKEN, words
from tests.support.worker.dead import bury, events

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


def test_the_verdict_and_what_fixes_it(console: Make, redis: Redis, keys: Keys) -> None:
    """Every finding of `birdfeed status`, its commands as code, and the runbook's section."""
    page = console().get("/")

    found = read_status(redis, keys, redis_time(redis)).findings
    assert page.status_code == 200
    assert "birdfeed is down" in words(page.text)
    assert "<code>birdfeed worker</code>" in page.text
    assert len(found) >= 1
    for one in found:
        assert words(one.message.replace("`", " ")) in words(page.text)
        assert f"Runbook: {one.rule.section}" in page.text


def test_everything_on_one_page(console: Make, redis: Redis, keys: Keys) -> None:
    """Counts of the last hours, dead letters by kind, data sources, workers, the ledger."""
    letters = bury(redis, keys, events(3), now=datetime.now(UTC))
    redis.hset(
        keys.birdfeed("destination:llm_events"),
        mapping={"backoff_until": "9999999999", "failures": "2", "reason": "HTTP 503 from api.example"},
    )
    redis.sadd(f"rq:workers:{keys.queue}", "rq:worker:one")
    redis.hset("rq:worker:one", mapping={"hostname": "host-a", "pid": "77", "state": "busy", "queues": keys.queue})
    with redis.pipeline() as pipe:
        add_counts(pipe, keys, Clock().time() - 60, {"accepted:text_generation": 40, "written:text_generation": 37})
        pipe.execute()

    page = console().get("/?hours=1").text
    said = words(page)

    assert "accepted 40 written 37" in said
    assert "accepted: 40" in page  # under the pointer
    assert letters[0].fingerprint in said
    assert "3 invalid text_generation" in said
    assert "HTTP 503 from api.example" in said
    assert "host-a 77 busy" in said
    assert "text_generation 3 0 3 0 0 0 0" in said
    assert "It balances." in said


def test_no_redis(console: Make) -> None:
    """A page with 503 that says so and reloads by itself."""
    page = console(connection=connect("redis://127.0.0.1:1/0", tries=0, timeout=5)).get("/")

    assert page.status_code == 503
    assert "Redis doesn&#39;t answer (ConnectionError)" in page.text
    assert 'data-refresh="5"' in page.text


def test_an_empty_redis(console: Make) -> None:
    """The page says that no event was sent yet, without an error."""
    said = words(console().get("/").text)

    assert "No dead letters." in said
    assert "rows without a price no rows yet" in said


#: Markup, a terminal's escape, lines, an event handler, a formula, a template, a bidirectional mark.
HOSTILE = "=1+1<script>alert(1)</script>\x1b]52;c;aGk=\x07\n\"onload='x' {{ 7*7 }}\u202e`rm`"


@pytest.fixture
def hostile(redis: Redis, keys: Keys) -> DeadLetterInfo:
    """Hostile names in every place for a name; a dead letter with them."""
    [letter] = bury(redis, keys, [envelope(text(model=HOSTILE, user=HOSTILE))], reason="invalid", detail=HOSTILE)
    redis.hincrby(keys.ledger, f"accepted:{HOSTILE}", 7)
    redis.hset(keys.birdfeed("destination:llm_events"), mapping={"backoff_until": "9999999999", "reason": HOSTILE})
    tripped = json.dumps({"reason": HOSTILE, "dead": 9, "seen": 9, "since": 1})
    redis.hset(keys.birdfeed("breaker"), mapping={HOSTILE: tripped})
    redis.sadd(f"rq:workers:{keys.queue}", "rq:worker:evil")
    redis.hset("rq:worker:evil", mapping={"hostname": HOSTILE, "pid": "1", "state": HOSTILE, "queues": keys.queue})
    note(redis, keys, HOSTILE, choice={"model": HOSTILE}, refused={HOSTILE: 1})
    return letter


#: Every page from Redis that shows text from outside; tests/e2e/cli/test_hostile_names.py has the store's. FINGERPRINT
#: and LETTER are those of `hostile`, NAME for HOSTILE.
PAGES = (
    "/", "/dead", "/dead?text=alert", "/dead/kinds/FINGERPRINT", "/dead/letters/LETTER", "/replays",
    "/replays/new?of=filter&user=NAME",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_hostile_values_stay_text(path: str, console: Make, hostile: DeadLetterInfo) -> None:
    """No markup, control character or template from them; the page still shows them."""
    page = console(TOKEN).get(
        path.replace("FINGERPRINT", hostile.fingerprint).replace("LETTER", hostile.id).replace("NAME", quote(HOSTILE))
    )

    assert page.status_code == 200
    assert "=1+1" in page.text
    assert "<script>alert" not in page.text
    assert " onload=" not in re.sub(r">[^<]*<", "><", page.text).replace(visible("\n"), "")
    assert "{{ 7*7 }}" in page.text
    assert [ascii(one) for one in sorted(set(page.text)) if one not in "\n\xa0" and not one.isprintable()] == []
