"""Destinations: the state of each data source, according to the pool's rate limiter."""

from dataclasses import dataclass
from typing import Literal

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.queue.reply import as_text, number, real


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One data source. Times are epoch seconds.

    `state` is available, backing_off (it asked to wait, or doesn't answer) or paused (an operator has to fix it).
    `until` is when the next request may be sent, `since` when it began to refuse.
    """

    state: Literal["available", "backing_off", "paused"] = "available"
    reason: str = ""
    until: float = 0.0
    since: float | None = None
    failures: int = 0
    last_success: float | None = None


def destinations(connection: Redis, keys: Keys, now: float) -> dict[str, Destination]:
    """Every data source of a registered event type → its state."""
    names = sorted({known.datasource for known in registry().values()})
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.birdfeed(f"destination:{name}"))
        found = pipe.execute()
    return {
        name: read_destination({as_text(key): as_text(value) for key, value in fields.items()}, now)
        for name, fields in zip(names, found, strict=True)
    }


def read_destination(fields: dict[str, str], now: float) -> Destination:
    """A destination from the limiter's hash. Pure."""
    until, failures = _time(fields.get("backoff_until")) or 0.0, number(fields.get("failures"), 0)
    refused = until > now or failures > 0
    return Destination(
        state="paused" if refused and fields.get("paused") == "1" else "backing_off" if refused else "available",
        reason=fields.get("reason", "") if refused else "",
        until=until if refused else 0.0,
        since=_time(fields.get("since")) if refused else None,
        failures=failures,
        last_success=_time(fields.get("last_success")),
    )


def _time(text: str | None) -> float | None:
    return real(text, 0.0, 1e11)
