"""rq's job data and a job's hash, read strictly; and what a worker reads from the queue."""

import zlib
from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.envelope import Header, WireError, split_batch
from birdfeed_schemas.wire.keys import JOB_FUNCTION, Keys
from birdfeed_worker.queue import codec
from birdfeed_worker.queue.codec import pack, repack, unpack
from birdfeed_worker.queue.reserve import MOST_EVENTS, Reserver, _read_job
from redis import Redis
from redis.exceptions import OutOfMemoryError

from tests.support.worker.dead import accept, events
from tests.support.worker.delivering import reserve_all
from tests.support.worker.writing import job

HEADER = Header(batch_id="b", event_type="t", count=2)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "can't be unpacked: it ends too early"),
        (b"no zlib", "can't be unpacked: it is not zlib's: Error "),
        (zlib.compress(b"[1, 2, 3]")[:-1], "can't be unpacked: it ends too early"),
        (zlib.compress(b"[1, 2"), "is not rq's JSON: JSONDecodeError"),
        (zlib.compress(b"7"), "is not rq's JSON: TypeError"),
        (zlib.compress(b"[1, 2, 3]"), "is not rq's JSON: ValueError"),
        (zlib.compress(orjson.dumps(["os.system", None, ["x"], {}])), "calls a function other than birdfeed's"),
        (zlib.compress(orjson.dumps([JOB_FUNCTION, None, "x", {}])), "arguments are not one packed batch"),
        (zlib.compress(orjson.dumps([JOB_FUNCTION, None, [], {}])), "arguments are not one packed batch"),
        (zlib.compress(orjson.dumps([JOB_FUNCTION, None, ["x", "y"], {}])), "arguments are not one packed batch"),
        (zlib.compress(orjson.dumps([JOB_FUNCTION, None, [7], {}])), "arguments are not one packed batch"),
    ],
)
def test_data_that_is_not_a_batch_of_ours(data: bytes, why: str) -> None:
    """No function is called, and the reason names the fault."""
    with pytest.raises(WireError, match=why):
        unpack(data)


def test_the_largest_unpacked_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte."""
    data = pack("x" * 100)
    size = len(zlib.decompress(data))
    monkeypatch.setattr(codec, "MAX_UNPACKED_BYTES", size)
    assert unpack(data) == "x" * 100
    monkeypatch.setattr(codec, "MAX_UNPACKED_BYTES", size - 1)
    with pytest.raises(WireError, match=f"unpacks to more than {size - 1} bytes"):
        unpack(data)


def test_what_is_packed() -> None:
    """In rq's format, with another level if given; the size is that of the batch before compression."""
    lines = [b'{"a":1}' * 50, b'{"b":2}' * 50]

    data, size = repack(HEADER, lines)

    packed = unpack(data)
    assert (list(split_batch(packed).lines), len(packed)) == (lines, size)
    text = orjson.dumps([JOB_FUNCTION, None, [packed], {}])
    assert data == pack(packed) == zlib.compress(text, 6)
    assert repack(HEADER, lines, 0) == (zlib.compress(text, 0), size)


#: A hash's fields, and the values that are read.
FIELDS: dict[str, tuple[bytes, str, Any]] = {
    "data": (b"x", "data", b"x"),
    "bf_type": (b"t", "event_type", "t"),
    "bf_events": (b"12", "events", 12),
    "bf_bytes": (b"13", "size", 13),
    "bf_attempts": (b"14", "attempts", 14),
    "bf_first_taken": (b"1800000000.5", "first_reserved", 1_800_000_000.5),
    "bf_posted": (b"1800000001.5", "maybe_written_since", 1_800_000_001.5),
    "bf_suspect": (b"2", "suspect", 2),
    "bf_unknowns": (b"3", "unknowns", 3),
    "bf_spent": (b"4.5", "spent", 4.5),
}
NOTHING = job("j", execution="e", data=b"", event_type="unknown", events=1, size=0, attempts=1, first_reserved=0.0)


def test_a_jobs_hash() -> None:
    """Every field is read; a missing field and junk give the same."""
    flat = [part for name, (value, _, _) in FIELDS.items() for part in (name.encode(), value)]

    found = _read_job("j", flat, "e")

    assert {attribute: getattr(found, attribute) for _, attribute, _ in FIELDS.values()} == {
        attribute: expected for _, attribute, expected in FIELDS.values()
    }
    assert (found.id, found.execution) == ("j", "e")
    assert _read_job("j", [], "e") == NOTHING


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("data", "bf_type", "bf_posted")])
@pytest.mark.parametrize("junk", [b"", b"-1", b"nan", b"x"])
def test_junk_reads_as_missing(name: str, junk: bytes) -> None:
    assert _read_job("j", [name.encode(), junk], "e") == NOTHING


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("bf_events", str(MOST_EVENTS).encode(), "events", MOST_EVENTS),
        ("bf_events", str(MOST_EVENTS + 1).encode(), "events", 1),
        ("bf_spent", b"0.25", "spent", 0.25),
        ("bf_spent", b"1000000000", "spent", 1e9),
        ("bf_spent", b"1000000001", "spent", 0.0),
        ("bf_posted", b"junk", "maybe_written_since", 0.0),
        ("bf_posted", b"", "maybe_written_since", None),
    ],
)
def test_the_limits_of_fields(name: str, value: bytes, attribute: str, expected: Any) -> None:
    """A mark that can't be read means that rows may have been written at any time."""
    assert getattr(_read_job("j", [name.encode(), value], "e"), attribute) == expected


def test_waiting_for_a_job(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is read, not changed; a Redis that is full refuses even that immediately."""
    reserver = Reserver(redis, keys, "w1", 20)
    redis.rpush(keys.queue_list, "a", "b", "c")
    assert reserver.wait(5.0) is True
    assert redis.lrange(keys.queue_list, 0, -1) == [b"a", b"b", b"c"]
    redis.delete(keys.queue_list)
    assert reserver.wait(0.001) is True

    def full(*given: object) -> None:
        raise OutOfMemoryError("full")

    monkeypatch.setattr(redis, "blmove", full)
    assert reserver.wait(5.0) is False


@pytest.mark.parametrize(
    ("due", "left", "next_due"),
    [([], 0, None), ([1.0, 2.0], 0, None), ([1.0, 4e9, 3.5e9], 2, 3.5e9)],
)
def test_when_the_next_scheduled_job_is_due(
    redis: Redis, keys: Keys, due: list[float], left: int, next_due: float | None
) -> None:
    """Those that are due are in the queue already."""
    for number, when in enumerate(due):
        redis.hset(keys.job(f"j{number}"), mapping={"status": "scheduled", "data": b"x"})
        redis.zadd(keys.scheduled, {f"j{number}": when})

    assert Reserver(redis, keys, "w1", 20).promote() == next_due

    assert (redis.llen(keys.queue_list), redis.zcard(keys.scheduled)) == (len(due) - left, left)


def test_leases_of_several_reservations_are_renewed(redis: Redis, keys: Keys) -> None:
    """Each in its own step; returns how many are still held."""
    held = []
    for _ in range(2):
        accept(redis, keys, events(1))
        accept(redis, keys, events(1))
        held += Reserver(redis, keys, "w1", 20).reserve(jobs=1, events=9, size=10**6)
    renewer = Reserver(redis, keys, "w1", 20)

    assert renewer.renew([]) == 0
    assert renewer.renew(reserve_all(redis, keys, "w1")) == redis.zcard(keys.started) == 4
    assert renewer.renew(held) == 0, "they were reserved again since"
