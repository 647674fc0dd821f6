"""Producers: what their heartbeats report, and spools that were left behind on hosts.

A heartbeat expires after a minute. A spool outlives the process that wrote it, so workers remember each host's last
known spool until a producer there reports that it is empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.reply import as_text
from birdfeed_worker.queue.scripts import run_when_full

#: Producers that are read at most.
MOST_PRODUCERS: Final = 1_000
#: Seconds for which a host's spool is remembered after the last report about it.
REMEMBER_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """One process that tracks events: what is in its memory and its host's spool, and what it has dropped."""

    host: str
    pid: int
    version: str = ""
    buffered: int = 0
    spooled_events: int = 0
    spooled_bytes: int = 0
    spooled_oldest: float = 0.0
    enqueued: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpool:
    """One host's spool: events, bytes, the age of the oldest in seconds, and the number of live producers there."""

    host: str
    events: int
    bytes: int
    oldest: float
    producers: int


def read_producers(connection: Redis, keys: Keys) -> list[Producer]:
    """The live producers, sorted by host and process id; unreadable heartbeats are left out."""
    newest: list[Any] = connection.zrevrange(keys.producers, 0, MOST_PRODUCERS - 1)
    ids = [as_text(one) for one in newest]
    with connection.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.hgetall(keys.producer(one))
        found = [_producer({as_text(k): as_text(v) for k, v in has.items()}) for has in pipe.execute() if has]
    return sorted((one for one in found if one is not None), key=lambda one: (one.host, one.pid))


def read_spools(connection: Redis, keys: Keys, producers: Iterable[Producer], now: float) -> list[HostSpool]:
    """The spools that are not empty, by host: as live producers report, or else as remembered."""
    living = _by_host(producers)
    spools = {one.host: one for one in living.values() if one.events}
    for host, note in connection.hgetall(_key(keys)).items():
        name = as_text(host)
        if name not in living and (left := _remembered(name, note, now)) is not None:
            spools[name] = left
    return [spools[host] for host in sorted(spools)]


def remember_spools(connection: Redis, keys: Keys, now: float) -> None:
    """Remember what live producers report about their spools. `now` is epoch s by Redis's clock."""
    living = _by_host(read_producers(connection, keys))
    if not living:
        return
    with connection.pipeline(transaction=False) as pipe:
        for host, spool in living.items():
            if spool.events:
                note = {"events": spool.events, "bytes": spool.bytes, "oldest_at": now - spool.oldest}
                pipe.hset(_key(keys), host, orjson.dumps(note))
            else:
                pipe.hdel(_key(keys), host)
        pipe.expire(_key(keys), REMEMBER_SECONDS)
        run_when_full(connection, keys, pipe)


def forget_spool(connection: Redis, keys: Keys, host: str) -> None:
    """Forget a host's spool, because it was drained with the command."""
    connection.hdel(_key(keys), host)


def _by_host(producers: Iterable[Producer]) -> dict[str, HostSpool]:
    """Host → spool. The producers of a host share its spool, and each reports what it saw last; the largest is used."""
    hosts: dict[str, list[Producer]] = {}
    for one in producers:
        hosts.setdefault(one.host, []).append(one)
    return {
        host: HostSpool(
            host=host,
            events=max(one.spooled_events for one in some),
            bytes=max(one.spooled_bytes for one in some),
            oldest=max(one.spooled_oldest for one in some),
            producers=len(some),
        )
        for host, some in hosts.items()
    }


def _producer(has: Mapping[str, str]) -> Producer | None:
    try:
        dropped: Any = orjson.loads(has.get("dropped") or "{}")
        return Producer(
            host=has["host"],
            pid=int(has["pid"]),
            version=has.get("version", ""),
            buffered=int(has.get("buffered", 0)),
            spooled_events=int(has.get("spooled_events", 0)),
            spooled_bytes=int(has.get("spooled_bytes", 0)),
            spooled_oldest=float(has.get("spooled_oldest_seconds", 0)),
            enqueued=int(has.get("enqueued", 0)),
            dropped={str(reason): int(events) for reason, events in dropped.items()},
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _remembered(host: str, note: bytes | str, now: float) -> HostSpool | None:
    try:
        has = orjson.loads(note)
        events, size, oldest = int(has["events"]), int(has["bytes"]), max(0.0, now - float(has["oldest_at"]))
    except (ValueError, TypeError, KeyError):
        return None
    return HostSpool(host=host, events=events, bytes=size, oldest=oldest, producers=0) if events > 0 else None


def _key(keys: Keys) -> str:
    return keys.birdfeed("spools")
