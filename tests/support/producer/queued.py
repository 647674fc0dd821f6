"""Read back what the producer put into Redis, by rq's own Job class and the schemas' own decoding."""

from typing import Any

import orjson
from birdfeed_schemas.wire.envelope import split_batch
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer


def batches_in(redis: Redis, keys: Keys) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Every batch in the queue: its header and its events. A job that is queued twice is in the list twice."""
    found = []
    for job_id in redis.lrange(keys.queue_list, 0, -1):
        job = Job.fetch(text(job_id), connection=redis, serializer=JSONSerializer)
        batch = split_batch(job.args[0])
        assert batch.header.batch_id == job.id
        assert batch.header.count == len(batch.lines)
        found.append((batch.header, [orjson.loads(line) for line in batch.lines]))
    return found


def events_in(redis: Redis, keys: Keys, event_type: str | None = "text_generation") -> list[dict[str, Any]]:
    """Every event in the queue, of one type or of all."""
    batches = batches_in(redis, keys)
    return [event for header, events in batches if event_type in (None, header.event_type) for event in events]


def assert_balanced(redis: Redis, keys: Keys) -> None:
    """The ledger counts the events in the queue as accepted, and besides them only drops."""
    ledger = ledger_of(redis, keys)
    accepted = sum(count for name, count in ledger.items() if name.startswith("accepted:"))
    dropped = sum(count for name, count in ledger.items() if name.startswith("dropped:"))
    assert accepted - dropped == sum(len(events) for _, events in batches_in(redis, keys)), ledger


def ledger_of(redis: Redis, keys: Keys) -> dict[str, int]:
    """The ledger."""
    return {text(name): int(count) for name, count in redis.hgetall(keys.ledger).items()}


def text(value: bytes | str) -> str:
    """A value from redis-py as text."""
    return value.decode() if isinstance(value, bytes) else value
