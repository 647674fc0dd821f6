"""Scripts in one round trip, also on a master that has never seen them."""

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.model import Written
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.queue.scripts import run_all, script
from redis import Redis
from redis.client import Pipeline

from tests.support.events import enqueue, envelope, text


def test_a_new_master_is_told_the_script(redis: Redis, keys: Keys) -> None:
    """All calls are answered, in order, whether it knows the script or not; nothing is asked beforehand."""
    enqueue(redis, keys, [envelope(text())])
    promote = script(redis, "promote")
    calls = [([keys.queue_list], [keys.prefix, keys.queue, 10])] * 2

    for forget in (True, False):
        if forget:
            redis.script_flush()
        redis.config_resetstat()
        assert run_all(redis, promote, calls) == [[0, b""], [0, b""]]
        assert ("cmdstat_script|load" in redis.info("commandstats")) == forget
        assert "cmdstat_script|exists" not in redis.info("commandstats")


def test_the_breaker_where_the_master_changes(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old master knew its script, the new one doesn't: what was delivered is judged and settled all the same."""
    enqueue(redis, keys, [envelope(text())])
    jobs = Reserver(redis, keys, "w", 20).reserve(jobs=1, events=10, size=10_000)
    decoded = decode(jobs)
    decoded.items[0].outcome = Written()
    breaker = DeadLetterBreaker(redis, keys, Clock(), share=0.5, least=10)
    monkeypatch.setattr(Pipeline, "load_scripts", lambda self: None)  # the old one was asked
    redis.script_flush()

    breaker.judge(decoded.items, {job.id: job for job in jobs})

    assert redis.exists(keys.birdfeed("breaker-window:text_generation"))
