"""Events and batches for tests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from birdfeed_schemas.wire.envelope import Envelope, Header, encode_batch, encode_event
from birdfeed_schemas.wire.keys import BYTES_FIELD, EVENTS_FIELD, JOB_FUNCTION, TYPE_FIELD, Keys
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from uuid_utils import uuid7

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def text(**fields: Any) -> dict[str, Any]:
    """Data of a text_generation that costs 0.0003 USD by the shipped book."""
    return {
        "model": "openai",
        "model_used": "gpt-4.1-nano-2025-04-14",
        "status": "success",
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        **fields,
    }


def envelope(data: Mapping[str, Any], event_type: str = "text_generation", when: datetime = NOON) -> Envelope:
    """An event's envelope."""
    return Envelope(event_id=str(uuid7()), event_type=event_type, occurred_at=when, data=dict(data))


def pack(envelopes: Sequence[Envelope], batch_id: str, **header: Any) -> str:
    """A packed batch."""
    head = Header(batch_id=batch_id, event_type=envelopes[0].event_type, count=len(envelopes), **header)
    return encode_batch(head, [encode_event(one) for one in envelopes])


def enqueue(connection: Redis, keys: Keys, envelopes: Sequence[Envelope], **header: Any) -> str:
    """A job as the producer makes it, put into the queue by rq itself in one step; returns its id."""
    batch_id = str(uuid7())
    packed = pack(envelopes, batch_id, **header)
    fields: dict[Any, Any] = {
        EVENTS_FIELD: len(envelopes),
        BYTES_FIELD: len(packed),
        TYPE_FIELD: envelopes[0].event_type,
    }
    with connection.pipeline() as pipe:
        job = Queue(keys.queue, connection=connection, serializer=JSONSerializer).enqueue(
            JOB_FUNCTION, packed, job_id=batch_id, failure_ttl=-1, description="test", pipeline=pipe
        )
        pipe.hset(job.key, mapping=fields)
        pipe.execute()
    return batch_id
