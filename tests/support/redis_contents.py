"""All that is in a Redis, as text: for tests that search for what must not be in it."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from redis import Redis


def unpacked(data: bytes) -> str:
    """Bytes as text; those of a job decompressed."""
    with suppress(zlib.error):  # most values are not compressed
        data = zlib.decompress(data)
    return data.decode("utf-8", "replace")


#: How the whole value of a key is read, by its type.
READ: Mapping[bytes, tuple[str, ...]] = {
    b"string": ("GET", "{}"),
    b"hash": ("HGETALL", "{}"),
    b"list": ("LRANGE", "{}", "0", "-1"),
    b"set": ("SMEMBERS", "{}"),
    b"zset": ("ZRANGE", "{}", "0", "-1"),
    b"stream": ("XRANGE", "{}", "-", "+"),
}


def all_of(redis: Redis) -> str:
    """Everything in a Redis: the names of all keys, and their values, of any type."""
    found = []
    for key in redis.scan_iter(count=1_000):
        kind = redis.execute_command("TYPE", key)
        if kind == b"none":
            continue  # it has expired meanwhile
        command = READ[kind]
        found += [unpacked(key), *texts_in(redis.execute_command(*(key if word == "{}" else word for word in command)))]
    return "\n".join(found)


def texts_in(answer: Any) -> Iterator[str]:
    """Every text in what Redis answered."""
    if isinstance(answer, bytes):
        yield unpacked(answer)
    elif isinstance(answer, Mapping):
        for pair in answer.items():
            yield from texts_in(pair)
    elif isinstance(answer, list | tuple | set):
        for part in answer:
            yield from texts_in(part)
