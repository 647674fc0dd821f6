"""Jobs that no birdfeed producer makes: any client that can write to Redis may put them into the queue."""

import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import JOB_FUNCTION, Keys
from redis import Redis
from uuid_utils import uuid7

from tests.support.events import text

#: A valid event's data is `text()`; this is not.
INVALID: Final = {"usage": 1}


def line(data: Mapping[str, Any] | None = None, **fields: Any) -> str:
    """An event's line; `fields` replace what it says."""
    told = {"event_id": str(uuid7()), "occurred_at": format_time(datetime.now(UTC)), "data": data or text()}
    return json.dumps({**told, **fields})


def header(**fields: Any) -> dict[str, Any]:
    """A header; `fields` replace what it says."""
    return {"version": 1, "batch_id": str(uuid7()), "event_type": "text_generation", "count": 1, **fields}


def packed(head: Any, *lines: str) -> bytes:
    """A job's data in rq's format."""
    first = head if isinstance(head, str) else json.dumps(head)
    return zlib.compress(json.dumps([JOB_FUNCTION, None, ["\n".join([first, *lines])], {}]).encode())


def put(redis: Redis, keys: Keys, job_id: str | bytes = "odd", *, front: bool = False, **fields: Any) -> None:
    """Put a job into the queue (or at its `front`), counted as a producer does.

    `fields` replace those of a valid one.
    """
    told: dict[Any, Any] = {
        "data": packed(header(), line()),
        "status": "queued",
        "origin": keys.queue,
        "bf_events": 1,
        "bf_bytes": 300,
        "bf_type": "text_generation",
    }
    name = job_id if isinstance(job_id, bytes) else job_id.encode()
    told |= fields
    with redis.pipeline(transaction=True) as pipe:
        pipe.hset(keys.job("").encode() + name, mapping=told)
        pipe.hincrby(keys.ledger, f"accepted:{told['bf_type']}", 1)
        (pipe.lpush if front else pipe.rpush)(keys.queue_list, job_id)
        pipe.execute()


def _year(year: int) -> Callable[[], bytes]:
    when = f"{year:04d}-06-01T00:00:00Z"
    data = text(start_time=when, end_time=when, duration=1)
    return lambda: packed(header(retried=True), line(data, occurred_at=when))


#: Data of jobs that can't be read, or whose only event can't: the job is a dead letter, `undecodable` or `invalid`.
DEADLY: Final[dict[str, Callable[[], bytes]]] = {
    "event_type is a list": lambda: packed(header(event_type=["x"]), line()),
    "event_type is an object": lambda: packed(header(event_type={"a": 1}), line()),
    "event_type is a number": lambda: packed(header(event_type=5), line()),
    "event_type is null": lambda: packed(header(event_type=None), line()),
    "batch_id is a list": lambda: packed(header(batch_id=[1]), line()),
    "count is text": lambda: packed(header(count="1"), line()),
    "count is below 0": lambda: packed(header(count=-1), line()),
    "attempts is text, its event invalid": lambda: packed(header(attempts="3"), line(INVALID)),
    "attempts is huge, its event invalid": lambda: packed(header(attempts=10**25), line(INVALID)),
    "replays is a list, its event invalid": lambda: packed(header(replays=[1]), line(INVALID)),
    "replays is text, its event invalid": lambda: packed(header(replays="1"), line(INVALID)),
    "replay_id is an object": lambda: packed(header(replay_id={"a": 1}), line()),
    "retried is a number": lambda: packed(header(retried=1), line()),
    "first_failed_at is a number": lambda: packed(header(first_failed_at=5), line(INVALID)),
    "detail is a list": lambda: packed(header(detail=[1], reason="x"), line(INVALID)),
    "detail is very long": lambda: packed(header(detail="x" * 100_000), line(INVALID)),
    "version is a list": lambda: packed(header(version=[1]), line()),
    "version is an object": lambda: packed(header(version={}), line()),
    "version is true": lambda: packed(header(version=True), line()),
    "version is below 0": lambda: packed(header(version=-1), line()),
    "the header is a list": lambda: packed([1], line()),
    "the header is not JSON": lambda: packed("{", line()),
    "year 9999, asked about": _year(9999),
    "year 1, asked about": _year(1),
    "year 1 of another zone": lambda: packed(header(retried=True), line(occurred_at="0001-01-01T00:00:00+23:00")),
    "no time zone": lambda: packed(header(), line(occurred_at="2026-01-01T00:00:00")),
    "deep JSON": lambda: packed(header(), "[" * 200_000),
    "lines that close a list": lambda: packed(header(), "1],[2"),
    "data is a list": lambda: packed(header(), line(data=None).replace('"data": {', '"data": [{') + "]"),
    "a function of somebody else's": lambda: zlib.compress(b'["os.system",null,["true"],{}]'),
    "two arguments": lambda: zlib.compress(json.dumps([JOB_FUNCTION, None, ["a", "b"], {}]).encode()),
    "no argument": lambda: zlib.compress(json.dumps([JOB_FUNCTION, None, [], {}]).encode()),
    "an argument that is a number": lambda: zlib.compress(json.dumps([JOB_FUNCTION, None, [1], {}]).encode()),
    "arguments that are text": lambda: zlib.compress(json.dumps([JOB_FUNCTION, None, "a", {}]).encode()),
    "a pickle": lambda: b"\x80\x04cos\nsystem\n.",
    "nothing": lambda: b"",
    "a lone surrogate": lambda: zlib.compress(b'["birdfeed_worker.job.deliver",null,["{\\"version\\":1}\\ud800"],{}]'),
    "a million lines": lambda: packed(header(), *["{}"] * 1_000_000),
    "a bomb": lambda: zlib.compress(b'["birdfeed_worker.job.deliver",null,["' + b" " * 129_000_000 + b'"],{}]', 1),
}

#: Invalid fields of a job's own hash, with valid data: its event is written.
JUNK_FIELDS: Final[dict[str, dict[Any, Any]]] = {
    "bf_first_taken": {"bf_first_taken": "x"},
    "bf_posted": {"bf_posted": "x"},
    "bf_posted, no number": {"bf_posted": "nan"},
    "bf_posted, for ever": {"bf_posted": "inf"},
    "bf_posted, far ahead": {"bf_posted": "1e300"},
    "bf_spent": {"bf_spent": "x", "bf_unknowns": "9" * 4_000, "bf_unknown_at": "[]"},
    "bf_spent, no number": {"bf_spent": "nan"},
    "bf_events of 5,000 digits": {"bf_events": "9" * 5_000},
    "bf_events too many": {"bf_events": "999999999999999"},
    "bf_events, text": {"bf_events": "many"},
    "bf_bytes": {"bf_bytes": "-1"},
    "bf_type, no UTF-8": {"bf_type": b"\xff\xfe"},
    "bf_type, control characters": {"bf_type": "a:b\nc\x1b[2J"},
    "bf_attempts": {"bf_attempts": "x"},
    "bf_suspect": {"bf_suspect": "x"},
    "a name that is no UTF-8": {b"\xff\xfe": b"x"},
    "status": {"status": "wat"},
    "status of a job that is scheduled nowhere": {"status": "scheduled"},
    "status of a job that is held by nobody": {"status": "started", "worker_name": "gone"},
}
