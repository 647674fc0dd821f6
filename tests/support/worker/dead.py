"""Dead letters for tests, made as workers make them; and a worker without a store."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from birdfeed_schemas.wire.envelope import Envelope, Header, encode_event, format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import DeadLetterInfo, dead_letters_of
from birdfeed_worker.dead_letters.record import letter_fields, new_letter_id
from birdfeed_worker.model import Dead, Item, Outcome, Written
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis

from tests.support.events import NOON, enqueue, envelope, text

Rule = Callable[[Item], Outcome]


def accept(redis: Redis, keys: Keys, envelopes: Sequence[Envelope], **header: object) -> str:
    """A job, counted as the producer counts it; its id."""
    redis.hincrby(keys.ledger, f"accepted:{envelopes[0].event_type}", len(envelopes))
    return enqueue(redis, keys, envelopes, **header)


def work(
    redis: Redis, keys: Keys, rule: Rule = lambda item: Written(), *, name: str = "w", now: datetime | None = None
) -> list[Item]:
    """Reserve every waiting job and settle its events by the rule; returns the settled items."""
    reserver, settler = Reserver(redis, keys, name, 20), Settler(redis, keys, name)
    worked: list[Item] = []
    while jobs := reserver.reserve(jobs=500, events=100_000, size=10**9):
        decoded = decode(jobs)
        for item in decoded.items:
            if item.outcome is None:
                item.outcome = rule(item)
        settler.settle(jobs, decoded, now or datetime.now(UTC))
        worked += decoded.items
    return worked


def bury(
    redis: Redis,
    keys: Keys,
    envelopes: Sequence[Envelope],
    reason: str = "invalid",
    detail: str = "model: Field required",
    *,
    each: bool = False,
    now: datetime | None = None,
) -> list[DeadLetterInfo]:
    """Dead-letter these events, together or each by itself; returns all dead letters, opened."""
    for part in [[one] for one in envelopes] if each else [envelopes]:
        accept(redis, keys, part)
        work(redis, keys, lambda item: Dead(reason, detail), now=now)
    return list(dead_letters_of(redis, keys))


def events(count: int, **fields: object) -> list[Envelope]:
    """Valid events with request ids r0, r1, ..."""
    return [envelope(text(request_id=f"r{number}", **fields)) for number in range(count)]


def ids(items: Sequence[Item | Envelope]) -> list[str]:
    """Their event ids."""
    return [item.event_id for item in items]


def dead_events(redis: Redis, keys: Keys) -> list[str]:
    """The lines of every readable dead event."""
    return [line.decode() for letter in dead_letters_of(redis, keys) if letter.batch for line in letter.batch.lines]


def bury_many(redis: Redis, keys: Keys, count: int) -> None:
    """Create that many dead letters of one event each, as fast as possible; the ledger counts them."""
    stamp = format_time(NOON)
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        one = envelope(text(request_id=f"r{number}", user=f"u{number % 10}"))
        letter_id = new_letter_id()
        header = Header(
            batch_id=letter_id,
            event_type="text_generation",
            count=1,
            reason="rejected" if number % 4 else "quarantined",
            detail="HTTP 400: no",
            attempts=1,
            first_failed_at=stamp,
            last_failed_at=stamp,
        )
        fields: dict[Any, Any] = dict(letter_fields(header, [encode_event(one)], keys.queue))
        pipe.hset(keys.job(letter_id), mapping=fields)
        pipe.zadd(keys.failed, {letter_id: -1})
        pipe.hincrby(keys.ledger, f"dead:text_generation:{header.reason}", 1)
        if number % 1_000 == 999:
            pipe.execute()
    pipe.hincrby(keys.ledger, "accepted:text_generation", count)
    pipe.execute()
