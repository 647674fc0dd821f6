"""Schema state: what the last look at the store's columns found, kept in Redis for `birdfeed status`."""

from collections.abc import Sequence
from typing import Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

#: Most mismatches that are kept; a table of another product has them by the dozen.
MOST: Final = 50


def note_mismatches(connection: Redis, keys: Keys, said: Sequence[str], seconds: float) -> bool:
    """Keep them for so many seconds; returns whether they are other than before. Raises RedisError."""
    before = read_mismatches(connection, keys)
    connection.set(_key(keys), orjson.dumps(list(said[:MOST])), px=int(seconds * 1_000))
    return tuple(said[:MOST]) != before


def read_mismatches(connection: Redis, keys: Keys) -> tuple[str, ...]:
    """They; none where nobody looked lately, or what is kept can't be read."""
    try:
        found = orjson.loads(connection.get(_key(keys)) or b"[]")
    except ValueError:
        return ()
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _key(keys: Keys) -> str:
    return keys.birdfeed("schema")
