"""Check that the keys that all jobs share hold values of the right type.

Any client of Redis may have put text where a list is expected. Redis's own answer, WRONGTYPE, names no key.
"""

from collections.abc import Mapping
from typing import Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from birdfeed_worker.queue.reply import as_text, error_code

#: Redis's name of a type → its name in messages.
_NAMES: Final = {"zset": "sorted set", "string": "text"}
FIX: Final = (
    "another program wrote it; look at it, then move it away with RENAME, or delete it: everything continues by itself"
)


class WrongKindError(ResponseError):
    """A key holds a value of the wrong type; the message names each such key and says what to do."""


def kinds_of(keys: Keys) -> Mapping[str, str]:
    """Each key that all jobs share → the type that it must have, if it exists (in Redis's words)."""
    sources = sorted({known.datasource for known in registry().values()})
    hashes = ("breaker", "breaker-off", "costs", "dead-size", "refused", "sampled", "spools")
    return {
        keys.queue_list: "list",
        keys.started: "zset",
        keys.scheduled: "zset",
        keys.failed: "zset",
        keys.producers: "zset",
        keys.ledger: "hash",
        keys.queues: "set",
        f"{keys.prefix}:workers": "set",
        f"{keys.prefix}:workers:{keys.queue}": "set",
        keys.birdfeed("samples"): "stream",
        **{keys.birdfeed(name): "hash" for name in hashes},
        **{keys.birdfeed(f"destination:{source}"): "hash" for source in sources},
        **{keys.birdfeed(f"breaker-window:{name}"): "hash" for name in sorted(registry())},
    }


def named(connection: Redis, keys: Keys, error: RedisError) -> RedisError:
    """The same error, or, if a key of the wrong type caused it, an error that names the key."""
    if error_code(error) in ("WRONGTYPE", "WRONGKIND"):
        try:
            check_kinds(connection, keys)
        except WrongKindError as found:
            return found
        except RedisError:
            return error
    return error


def check_kinds(connection: Redis, keys: Keys) -> None:
    """Check all of them, in one round trip.

    Raises:
        WrongKindError: One or more have the wrong type.
    """
    meant = kinds_of(keys)
    with connection.pipeline(transaction=False) as pipe:
        for key in meant:
            pipe.type(key)
        found = [as_text(kind) for kind in pipe.execute()]
    wrong = [
        f"{key} holds a {_NAMES.get(kind, kind)}, not a {_NAMES.get(meant[key], meant[key])}"
        for key, kind in zip(meant, found, strict=True)
        if kind not in ("none", meant[key])
    ]
    if wrong:
        raise WrongKindError(f"{'; '.join(wrong)}: {FIX}")
