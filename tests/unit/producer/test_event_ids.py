"""Ids that track_event returns, the caller's own keys, and fields that are added to events without them."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import birdfeed
import pytest
from birdfeed import EventType, api, track, track_event
from birdfeed.client import Client
from birdfeed.encoding.added_fields import AddedFields
from birdfeed.logging_once import forget
from birdfeed.testing import Captured, capture
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.queued import events_in

TEXT = EventType("text_generation")


@pytest.fixture
def events() -> Iterator[Captured]:
    forget()
    with capture() as captured:
        yield captured


@pytest.fixture
def producer(valkey_url: str, redis: Redis, tmp_path: Path) -> Iterator[Client]:
    """A producer that sends to a real Redis when told to."""
    made = Client()
    before = api.use_client(made)
    birdfeed.configure(redis_url=valkey_url, spool_dir=tmp_path, flush_interval=60, max_event_bytes=300)
    yield made
    made.close()
    api.use_client(before)


def test_the_returned_id_is_the_rows(producer: Client, redis: Redis, keys: Keys) -> None:
    """Each event has its own, a UUIDv7, which is in Redis."""
    ids = [track_event("text_generation", {"model": "m"}) for _ in range(100)]
    birdfeed.flush(60)
    ids += [track_event("text_generation", {"model": "m"}) for _ in range(100)]
    birdfeed.flush(60)

    assert [event["event_id"] for event in events_in(redis, keys)] == ids
    assert len(set(ids)) == len(ids)
    assert {UUID(one or "").version for one in ids} == {7}


def test_a_dropped_event_has_no_id(producer: Client) -> None:
    """For any reason of a drop; and with telemetry off."""
    assert track_event("text_generation", {"model": "m" * 500}) is None
    assert birdfeed.stats().dropped == {"too_large": 1}
    bad: Any = 5
    assert track_event(bad, {"model": "m"}) is None
    assert track_event(TEXT, bad) is None

    birdfeed.configure(enabled=False)
    assert track_event("text_generation", {"model": "m"}) is None
    birdfeed.configure(before_send=lambda event: None, redis_url="redis://127.0.0.1:1/0")
    assert track_event("text_generation", {"model": "m"}) is None


def test_a_mapping_that_changes_while_it_is_read_has_an_id(events: Captured) -> None:
    """It is read at the second try."""

    class Changing(dict[str, Any]):
        def keys(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

        def items(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    assert track_event(TEXT, Changing(model="m")) == events.only.event_id


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_forked_children_share_no_id(fork: str) -> None:
    """The generator is seeded again in the child, also after a fork of C, which runs no hooks."""
    code = f"""
import ctypes, os, birdfeed, uuid_utils
birdfeed.configure(redis_url="redis://127.0.0.1:1/0", spool_bytes=0, flush_interval=60, close_timeout=0.1)
print(*[uuid_utils.uuid7() for _ in range(3)], flush=True)
if child := {fork}():
    os.waitpid(child, 0)
print(*[birdfeed.track_event("text_generation", {{"model": "m"}}) for _ in range(3)], flush=True)
os._exit(0)
"""
    env = {"PYTHONPATH": ":".join(sys.path), "PYTHONWARNINGS": "ignore"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout

    assert len({one[-12:] for one in out.split()}) == 9, "not only their times differ"


def test_a_retried_handler_counts_once(events: Captured) -> None:
    """One id for one key and type, whatever the other fields are; the key itself is not sent."""
    ids = [
        track_event("text_generation", {"model": "m", "idempotency_key": "job-1"}),
        track_event("text_generation", {"model": "n", "idempotency_key": "job-1"}),
        track_event("image_generation", {"model": "m", "idempotency_key": "job-1"}),
        track_event("text_generation", {"model": "m", "idempotency_key": 7}),
    ]
    with track("text_generation", model="m", idempotency_key="7"):
        pass

    assert [event.event_id for event in events] == [*ids, ids[3]]
    assert (ids[0] == ids[1], len(set(ids))) == (True, 3)
    assert [event.dropped_fields for event in events] == [0] * 5
    assert "job-1" not in str([event.data for event in events])


@pytest.mark.parametrize("key", [None, ""])
def test_an_empty_key_is_not_a_key(events: Captured, key: Any) -> None:
    """A missing header must not give all events the same id."""
    for _ in range(2):
        track_event("text_generation", {"model": "m", "idempotency_key": key})

    assert len({event.event_id for event in events}) == 2


def test_a_key_in_a_filtered_mapping(events: Captured) -> None:
    """Of another mapping, with fields that may not leave."""

    class Other(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            return {"model": "m", "prompt": "secret", "idempotency_key": "k"}[name]

        def __iter__(self) -> Iterator[str]:
            return iter(("model", "prompt", "idempotency_key"))

        def __len__(self) -> int:
            return 3

    first, second = track_event(TEXT, Other()), track_event(TEXT, {"model": "m", "idempotency_key": "k"})

    assert first == second
    assert [(event.data, event.dropped_fields) for event in events] == [({"model": "m"}, 1), ({"model": "m"}, 0)]


# ---- fields that are added


def test_defaults_of_the_process() -> None:
    """The event's own fields and the context's have priority, None too; types without such a field don't get it."""
    with capture(environment="production", organization="org") as events:
        track_event("text_generation", {"model": "m"})
        track_event("text_generation", {"model": "m", "environment": None})
        with birdfeed.context(environment="staging"):
            track_event("image_generation", {"model": "m"})
        with track("text_generation", model="m", organization="own"):
            pass

    assert [(event.data["environment"], event.data["organization"]) for event in events] == [
        ("production", "org"),
        (None, "org"),
        ("staging", "org"),
        ("production", "own"),
    ]
    assert AddedFields({"environment": "p"}).to({"a": 1}, {"a"}) == {"a": 1}
    assert [event.dropped_fields for event in events] == [0] * 4


def test_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong one is named."""
    monkeypatch.setenv("BIRDFEED_PROJECT", "apollo")
    with capture() as events:
        track_event("text_generation", {"model": "m"})
    assert events.only.data == {"model": "m", "project": "apollo"}

    monkeypatch.setenv("BIRDFEED_PROJECT", "x" * 513)
    with pytest.raises(birdfeed.ConfigurationError, match="BIRDFEED_PROJECT"):
        birdfeed.configure()


def test_the_active_span(events: Captured) -> None:
    """Its ids, as OpenTelemetry writes them; a stream has those with which it began.

    An event's own have priority, in any spelling.
    """
    import opentelemetry.sdk.trace  # noqa: F401 - what a program with spans has imported
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

    def span(number: int) -> NonRecordingSpan:
        return NonRecordingSpan(SpanContext(number, number + 1, is_remote=False, trace_flags=TraceFlags(1)))

    @track("text_generation", model="streamed")
    def stream() -> Iterator[str]:
        yield "a"

    track_event("text_generation", {"model": "none"})
    with use_span(span(0xAB)):
        track_event("text_generation", {"model": "in"})
        track_event("text_generation", {"model": "own", "traceId": "t"})
        parts = stream()
        next(parts)
    with use_span(span(0xCD)):
        list(parts)

    ids = {event.data["model"]: (event.data.get("trace_id"), event.data.get("span_id")) for event in events}
    began = ("ab".zfill(32), "ac".zfill(16))
    assert ids == {"none": (None, None), "in": began, "own": ("t", None), "streamed": began}


def test_an_opentelemetry_that_fails_loses_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports it, it has no get_current_span yet."""
    for name in ("opentelemetry.sdk.trace", "opentelemetry.trace"):
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    with capture() as events, track("text_generation", model="m"):
        track_event("text_generation", {"model": "m"})

    assert [(len(event.data) > 0, "trace_id" in event.data) for event in events] == [(True, False)] * 2


def test_opentelemetry_is_never_imported() -> None:
    """A program without it tracks without it; a later import is noticed at the next flush."""
    code = """
import sys, birdfeed
from birdfeed import api
birdfeed.configure(redis_url="redis://127.0.0.1:1/0", spool_bytes=0, flush_interval=60, close_timeout=0.1)
birdfeed.track_event("text_generation", {"model": "m"})
added = api.current_client()._pipeline._encoder.added
birdfeed.flush(30)
print("opentelemetry.sdk.trace" in sys.modules, added.any)
import opentelemetry.sdk.trace
birdfeed.flush(30)
print(added.any)
"""
    env = {"PYTHONPATH": ":".join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout

    assert out == "False False\nTrue\n"
