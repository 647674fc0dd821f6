"""A store that can't be queried is recorded, until the first answer."""

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError, QuotaError
from birdfeed_worker.flow.verification import KEEP_SECONDS, Unanswered, Verification, unanswered
from birdfeed_worker.pipeline.write import WriteLimits, Writer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.worker.fake_store import FakeStore
from tests.support.worker.writing import NOW, items, job, limiter_of, sender_of

KEY = "unanswered:llm_events"


class Asking:
    """A worker that has to verify three events."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.store = FakeStore()
        self.now = NOW
        clock = Clock(time=lambda: self.now)
        verification = Verification(redis, keys, "h1", clock)
        sender = sender_of(self.store, limiter_of(redis, keys), clock)
        self.writer = Writer(self.store, sender, clock, WriteLimits(1000, 10**6), verification=verification)

    def ask(self) -> None:
        made = items(3)
        for item in made:
            item.verify = True
        with self.writer.delivery({f"job-{n}": job(f"job-{n}") for n in range(3)}) as writing:
            writing.add("llm_events", made)


def test_a_failed_query_is_recorded_until_one_is_answered(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the host, the reason and the start; the record is kept longer than the wait for the next query."""
    asking = Asking(redis, keys)
    asking.store.refuse_queries = True
    asking.ask()
    asking.now += 30
    asking.ask()

    reason = "Tinybird refused the query (500): refused by the test"
    assert unanswered(redis, keys, ["llm_events", "image_events"]) == {
        "llm_events": Unanswered(host="h1", reason=reason, since=NOW)
    }
    assert redis.ttl(keys.birdfeed(KEY)) > KEEP_SECONDS

    def used_up(sql: str) -> list[object]:
        raise QuotaError(3_600)

    with monkeypatch.context() as patch:
        patch.setattr(asking.store, "query", used_up)
        asking.ask()
    assert "quota is used up" in unanswered(redis, keys, ["llm_events"])["llm_events"].reason
    assert redis.ttl(keys.birdfeed(KEY)) > 3_600

    asking.store.refuse_queries = False
    asking.ask()

    assert unanswered(redis, keys, ["llm_events"]) == {}
    assert len(asking.store.ids()) == 3


@pytest.mark.parametrize("note", [b"\xff", b"null", b"[1]", b'{"host":1}', b'{"host":"h","reason":"r","since":[]}'])
def test_junk_is_not_a_record(redis: Redis, keys: Keys, note: bytes) -> None:
    """Whatever wrote it."""
    redis.set(keys.birdfeed(KEY), note)

    assert unanswered(redis, keys, ["llm_events"]) == {}


def test_a_redis_that_refuses_writes_changes_nothing(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events wait as with the record."""
    asking = Asking(redis, keys)

    def away(*args: object, **named: object) -> None:
        raise RedisConnectionError("gone")

    def refuse(sql: str) -> list[object]:
        raise QueryError(500, "no")

    monkeypatch.setattr(redis, "set", away)
    monkeypatch.setattr(redis, "delete", away)
    with monkeypatch.context() as patch:
        patch.setattr(asking.store, "query", refuse)
        asking.ask()
    asking.ask()

    assert len(asking.store.ids()) == 3
