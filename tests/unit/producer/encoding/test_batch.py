"""Batches: one type each, bounded by count and bytes, readable by rq and by the worker."""

import zlib

import orjson
import pytest
from birdfeed.encoding.batch import cut, lines_of, mark_retried, pack
from birdfeed_schemas.wire.envelope import split_batch
from birdfeed_schemas.wire.keys import JOB_FUNCTION
from hypothesis import given
from hypothesis import strategies as st
from rq.serializers import JSONSerializer


def test_rq_reads_the_data() -> None:
    """rq's serializer finds function, no instance, one packed string, and no keywords."""
    batch = pack("text_generation", [b'{"a":"\xc3\xa9"}', b'{"b":2}'], compression=1)

    function, instance, args, kwargs = JSONSerializer.loads(zlib.decompress(batch.data))

    assert (function, instance, kwargs) == (JOB_FUNCTION, None, {})
    unpacked = split_batch(args[0])
    assert unpacked.lines == (b'{"a":"\xc3\xa9"}', b'{"b":2}')
    assert (unpacked.header.batch_id, unpacked.header.event_type) == (batch.id, "text_generation")
    assert (unpacked.header.count, unpacked.header.retried) == (2, False)
    assert batch.size == len(args[0].encode()) - 1  # one character of two bytes
    assert batch.events == 2


def test_a_retried_batch_is_marked_and_otherwise_the_same() -> None:
    """The same id and events; marking it twice changes nothing more."""
    batch = pack("text_generation", [b"1", b"2"], compression=6)
    marked = mark_retried(batch)

    packed = orjson.loads(zlib.decompress(marked.data))[2][0]
    assert split_batch(packed).header.retried is True
    assert (marked.id, marked.events, marked.retried) == (batch.id, 2, True)
    assert lines_of(marked) == lines_of(batch)
    assert mark_retried(marked) is marked


@pytest.mark.parametrize("level", range(10))
def test_every_compression_level_is_read(level: int) -> None:
    """No compression included: rq needs zlib's format in any case."""
    assert lines_of(pack("t", [b"x" * 1000], compression=level)) == (b"x" * 1000,)


def test_a_line_over_the_bound_is_a_batch_of_its_own() -> None:
    """It is below max_event_bytes, so it is sent, but it makes no other batch larger."""
    items = [("t", b"a"), ("t", b"b" * 100), ("t", b"c")]

    assert list(cut(items, batch_events=10, batch_bytes=50)) == [("t", [b"a"]), ("t", [b"b" * 100]), ("t", [b"c"])]


@given(
    items=st.lists(st.tuples(st.sampled_from("abc"), st.binary(min_size=1, max_size=60)), max_size=200),
    batch_events=st.integers(1, 20),
    batch_bytes=st.integers(50, 500),
)
def test_cutting_keeps_everything_in_order_and_within_bounds(
    items: list[tuple[str, bytes]], batch_events: int, batch_bytes: int
) -> None:
    """Every event once, in its type's order; no batch is over a bound unless it holds one event."""
    batches = list(cut(items, batch_events=batch_events, batch_bytes=batch_bytes))

    for kind in "abc":
        assert [line for event_type, lines in batches if event_type == kind for line in lines] == [
            line for event_type, line in items if event_type == kind
        ]
    for _, lines in batches:
        assert 1 <= len(lines) <= batch_events
        assert len(lines) == 1 or sum(len(line) + 1 for line in lines) <= batch_bytes
