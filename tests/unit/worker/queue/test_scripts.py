"""Scripts in one round trip, also on a master that doesn't have them."""

from importlib.resources import files

import pytest
from birdfeed_schemas.wire.accounts import ACCOUNT_LUA
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import DeadLetterBreaker
from birdfeed_worker.model import Written
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.queue.scripts import run_when_full, script
from redis import Redis
from redis.client import Pipeline

from tests.support.events import enqueue, envelope, text


def test_a_new_master_gets_the_script(redis: Redis, keys: Keys) -> None:
    """All calls are answered, in order, whether it has the script or not; there is no request before."""
    enqueue(redis, keys, [envelope(text())])
    promote = script(redis, keys, "promote")

    for forget in (True, False):
        if forget:
            redis.script_flush()
        redis.config_resetstat()
        assert promote.run_all([[10], [10]]) == [[0, b""], [0, b""]]
        assert ("cmdstat_script|load" in redis.info("commandstats")) == forget
        assert "cmdstat_script|exists" not in redis.info("commandstats")


def test_the_breaker_when_the_master_changes(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old master had its script, the new one doesn't: what was delivered is still counted and settled."""
    enqueue(redis, keys, [envelope(text())])
    jobs = Reserver(redis, keys, "w", 20).reserve(jobs=1, events=10, size=10_000)
    decoded = decode(jobs)
    decoded.items[0].outcome = Written()
    breaker = DeadLetterBreaker(redis, keys, Clock(), share=0.5, least=10)
    monkeypatch.setattr(Pipeline, "load_scripts", lambda self: None)  # the old one was used
    redis.script_flush()

    breaker.judge(decoded.items, {job.id: job for job in jobs})

    assert redis.exists(keys.birdfeed("breaker-window:text_generation"))


@pytest.mark.parametrize(("name", "writes"), [("depth", False), ("ledger", False), ("settle", True), ("reserve", True)])
def test_which_scripts_may_write(redis: Redis, keys: Keys, name: str, writes: bool) -> None:
    """Those may run on a full Redis; a script that only reads declares no more than it needs."""
    folder = files("birdfeed_worker.queue") / "lua"
    common, allowed, own = ((folder / f"{part}.lua").read_text() for part in ("common", "writes", name))

    found = script(redis, keys, name).script.script

    assert found == ACCOUNT_LUA + common + (allowed if writes else "") + own


def test_commands_in_one_step(redis: Redis, keys: Keys) -> None:
    """Their answers, in order, without a transaction; the pipeline is empty afterwards."""
    pipe = redis.pipeline()
    pipe.hincrby("h", "f", 2)
    pipe.set("s", "v", nx=True, ex=60)
    pipe.set("s", "w", nx=True)
    redis.config_resetstat()

    assert run_when_full(redis, keys, pipe) == [2, b"OK", None]

    assert (redis.get("s"), len(pipe)) == (b"v", 0)
    assert "cmdstat_multi" not in redis.info("commandstats")
    assert run_when_full(redis, keys, pipe) == []
    assert redis.hget("h", "f") == b"2"


def test_many_calls_are_not_a_transaction(redis: Redis, keys: Keys) -> None:
    """Each is its own step: other clients need not wait for all of them."""
    promote = script(redis, keys, "promote")
    promote.run_all([])
    redis.config_resetstat()

    assert promote.run_all([[10]] * 3) == [[0, b""]] * 3
    assert "cmdstat_multi" not in redis.info("commandstats")
