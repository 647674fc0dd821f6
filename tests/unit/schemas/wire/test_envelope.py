"""The wire format: what is written can be read, and damage affects only the damaged event."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from birdfeed_schemas.wire.envelope import (
    Batch,
    Envelope,
    Header,
    NewerVersionError,
    WireError,
    encode_batch,
    encode_event,
    format_time,
    read_event,
    read_events,
    split_batch,
)
from hypothesis import given
from hypothesis import strategies as st

ID = "019afc3e-5a3c-7d10-8000-000000000001"
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
envelopes = st.builds(
    Envelope,
    event_id=st.uuids().map(str),
    event_type=st.just("text_generation"),
    occurred_at=st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),
    data=st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=5),
    dropped_fields=st.integers(min_value=0, max_value=1000),
    truncated=st.integers(min_value=0, max_value=1000),
)


@pytest.mark.heavy
@given(st.lists(envelopes, max_size=5), st.booleans(), st.text(st.characters(codec="utf-8"), max_size=20))
def test_decode_after_encode_is_identity(events: list[Envelope], retried: bool, detail: str) -> None:
    """Any JSON of a handler is decoded unchanged, with any characters."""
    header = Header(batch_id="b1", event_type="text_generation", count=len(events), retried=retried, detail=detail)

    batch = split_batch(encode_batch(header, [encode_event(one) for one in events]))

    assert batch.header == header
    assert read_events(batch) == events
    assert [read_event(batch.header, line) for line in batch.lines] == events


def test_an_old_payload_is_still_read() -> None:
    """Jobs that are in Redis must stay readable: version 1 wrote this text."""
    packed = (
        '{"version":1,"batch_id":"b1","event_type":"text_generation","count":1}\n'
        '{"event_id":"'
        + ID
        + '","occurred_at":"2026-11-23T12:00:00.123456Z","data":{"model":"openai"},"dropped_fields":2}'
    )

    batch = split_batch(packed)

    assert batch.header == Header(batch_id="b1", event_type="text_generation", count=1)
    assert read_events(batch) == [
        Envelope(
            event_id=ID,
            event_type="text_generation",
            occurred_at=datetime(2026, 11, 23, 12, 0, 0, 123456, UTC),
            data={"model": "openai"},
            dropped_fields=2,
        )
    ]


@pytest.mark.parametrize(
    "packed",
    ["", "not json", "[]", "{}", '{"version":1}', '{"version":"1","batch_id":"b","event_type":"t","count":1}', "null"],
)
def test_an_invalid_header(packed: str) -> None:
    """Is an error that says so."""
    with pytest.raises(WireError):
        split_batch(packed)


def test_a_newer_version_is_distinguished() -> None:
    """It waits for a newer worker, so it must not look like damage."""
    with pytest.raises(NewerVersionError, match="wire version 2") as caught:
        split_batch('{"version":2,"something":"else"}')
    assert caught.value.version == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "lacks a readable event_id"),
        (b'{"event_id":"x","occurred_at":"2026-11-23T12:00:00Z","data":{}}', "lacks a readable event_id"),
        (b'{"event_id":"%s","occurred_at":"noon","data":{}}' % ID.encode(), "lacks a readable event_id"),
        (b'{"event_id":"%s","occurred_at":"2026-11-23T12:00:00","data":{}}' % ID.encode(), "no time zone"),
        (b'{"event_id":"%s","occurred_at":"2026-11-23T12:00:00Z","data":[]}' % ID.encode(), "is a list"),
    ],
)
def test_a_damaged_line_has_its_error(line: bytes, says: str) -> None:
    """Each affects only its own event."""
    with pytest.raises(WireError, match=says):
        read_event(Header(batch_id="b", event_type="t", count=1), line)


def test_two_values_on_a_line_do_not_shift_the_others() -> None:
    """Lines are counted, so that an outcome can never be recorded for another event."""
    with pytest.raises(WireError, match="more than one value"):
        read_events(Batch(Header(batch_id="b", event_type="t", count=1), (b"{},{}",)))


def test_times_are_sent_as_utc() -> None:
    """From any time zone."""
    when = datetime(2026, 11, 23, 13, 30, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(when) == "2026-11-23T12:30:00.000000Z"
    assert orjson.loads(encode_event(Envelope(event_id=ID, event_type="t", occurred_at=when, data={})))[
        "occurred_at"
    ] == ("2026-11-23T12:30:00.000000Z")
