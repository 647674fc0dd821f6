"""Keys of the wrong kind are named, by whatever error they came to light."""

import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.queue.kinds import FIX, WrongKindError, check_kinds, kinds_of, named
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def test_every_key_that_is_wrong_is_named(redis: Redis, keys: Keys) -> None:
    """In people's words, and what to do about it; keys that are right, or not there, are not."""
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
def test_the_error_behind_which_a_key_is(redis: Redis, keys: Keys, error: ResponseError) -> None:
    redis.set(keys.failed, "text")

    found = named(redis, keys, error)

    assert isinstance(found, WrongKindError)
    assert str(found).startswith(f"{keys.failed} holds a text, not a sorted set: ")


def test_an_error_of_another_kind_stays(redis: Redis, keys: Keys) -> None:
    """Nothing is looked at for it."""
    redis.set(keys.failed, "text")
    error = ResponseError("NOPERM")

    assert named(redis, keys, error) is error


def test_where_no_key_is_wrong_the_error_stays(redis: Redis, keys: Keys) -> None:
    """It was another key's, or it has been mended since."""
    assert named(redis, keys, WRONG) is WRONG


def test_where_nobody_answers_the_error_stays(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    redis.set(keys.failed, "text")

    def away(connection: Redis, keys: Keys) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr("birdfeed_worker.queue.kinds.check_kinds", away)

    assert named(redis, keys, WRONG) is WRONG


def test_every_shared_key_has_a_kind(keys: Keys) -> None:
    """As Redis calls it."""
    kinds = kinds_of(keys)

    assert set(kinds.values()) == {"list", "zset", "hash", "set", "stream"}
    assert kinds[keys.queue_list] == "list"
    assert {kinds[keys.birdfeed(f"destination:{name}")] for name in ("llm_events", "image_events")} == {"hash"}
    assert kinds[keys.birdfeed("breaker-window:text_generation")] == "hash"


def test_what_each_key_holds(keys: Keys) -> None:
    """Every key that all jobs share, by the name it has in Redis."""
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
def test_each_kind_is_told_from_text(redis: Redis, keys: Keys, kind: str, said: str) -> None:
    """In people's words; all keys are looked at in one round trip, in no transaction."""
    key = next(key for key, meant in kinds_of(keys).items() if meant == kind)
    redis.set(key, "x")
    redis.config_resetstat()

    with pytest.raises(WrongKindError, match=f"^{key} holds a text, not a {said}: "):
        check_kinds(redis, keys)

    stats = redis.info("commandstats")
    assert "cmdstat_multi" not in stats
    assert stats["cmdstat_type"]["calls"] == len(kinds_of(keys))
