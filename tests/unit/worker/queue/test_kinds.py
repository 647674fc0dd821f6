"""Keys of the wrong kind are named, whatever error they caused."""

import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.queue.kinds import FIX, WrongKindError, check_kinds, kinds_of, named
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def test_every_key_that_is_wrong_is_named(redis: Redis, keys: Keys) -> None:
    """In plain words, with what to do about it; correct and missing keys are not named."""
    redis.rpush(keys.queue_list, "a")
    check_kinds(redis, keys)
    redis.set(keys.started, "text")
    redis.sadd(keys.ledger, "x")

    with pytest.raises(WrongKindError) as caught:
        check_kinds(redis, keys)

    assert str(caught.value) == (
        f"{keys.started} holds a text, not a sorted set; {keys.ledger} holds a set, not a hash: {FIX}"
    )


@pytest.mark.parametrize("error", [WRONG, ResponseError("WRONGKIND rq:x holds a set, not a list")], ids=str)
def test_an_error_caused_by_a_key(redis: Redis, keys: Keys, error: ResponseError) -> None:
    redis.set(keys.failed, "text")

    found = named(redis, keys, error)

    assert isinstance(found, WrongKindError)
    assert str(found).startswith(f"{keys.failed} holds a text, not a sorted set: ")


def test_an_error_of_another_kind_stays(redis: Redis, keys: Keys) -> None:
    """No key is read for it."""
    redis.set(keys.failed, "text")
    error = ResponseError("NOPERM")

    assert named(redis, keys, error) is error


def test_the_error_stays_if_no_key_is_wrong(redis: Redis, keys: Keys) -> None:
    """It was another key, or it has been fixed since."""
    assert named(redis, keys, WRONG) is WRONG


def test_the_error_stays_if_redis_does_not_answer(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    redis.set(keys.failed, "text")

    def away(connection: Redis, keys: Keys) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr("birdfeed_worker.queue.kinds.check_kinds", away)

    assert named(redis, keys, WRONG) is WRONG


def test_every_shared_key_has_a_kind(keys: Keys) -> None:
    """With Redis's name for it."""
    kinds = kinds_of(keys)

    assert set(kinds.values()) == {"list", "zset", "hash", "set", "stream"}
    assert kinds[keys.queue_list] == "list"
    assert {kinds[keys.birdfeed(f"destination:{name}")] for name in ("llm_events", "image_events")} == {"hash"}
    assert kinds[keys.birdfeed("breaker-window:text_generation")] == "hash"


def test_the_kind_of_each_key(keys: Keys) -> None:
    """Every key that all jobs share, by its name in Redis."""
    sources = {known.datasource for known in registry().values()}
    own = {
        **dict.fromkeys(("breaker", "breaker-off", "costs", "dead-size", "refused", "sampled", "spools"), "hash"),
        **{f"destination:{source}": "hash" for source in sources},
        **{f"breaker-window:{event_type}": "hash" for event_type in registry()},
        "samples": "stream",
        "ledger": "hash",
        "producers": "zset",
    }

    assert kinds_of(keys) == {
        "rq:queue:birdfeed": "list",
        "rq:wip:birdfeed": "zset",
        "rq:scheduled:birdfeed": "zset",
        "rq:failed:birdfeed": "zset",
        "rq:queues": "set",
        "rq:workers": "set",
        "rq:workers:birdfeed": "set",
        **{f"rq:birdfeed:birdfeed:{name}": kind for name, kind in own.items()},
    }


@pytest.mark.parametrize(
    ("kind", "said"), [("zset", "sorted set"), ("list", "list"), ("set", "set"), ("hash", "hash"), ("stream", "stream")]
)
def test_each_kind_is_distinguished_from_text(redis: Redis, keys: Keys, kind: str, said: str) -> None:
    """In plain words; all keys are read in one round trip, without a transaction."""
    key = next(key for key, meant in kinds_of(keys).items() if meant == kind)
    redis.set(key, "x")
    redis.config_resetstat()

    with pytest.raises(WrongKindError, match=f"^{key} holds a text, not a {said}: "):
        check_kinds(redis, keys)

    stats = redis.info("commandstats")
    assert "cmdstat_multi" not in stats
    assert stats["cmdstat_type"]["calls"] == len(kinds_of(keys))
