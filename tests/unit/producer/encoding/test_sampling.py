"""A share of a type's events: which are sent, what they say, and how the others are counted."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import birdfeed
import pytest
from birdfeed import EventType, track, track_event
from birdfeed.api import current_client
from birdfeed.errors import ConfigurationError
from birdfeed.testing import Captured, capture

TEXT = EventType("text_generation")


@pytest.fixture
def events() -> Iterator[Captured]:
    with capture(sample={"text_generation": 0.25}) as captured:
        yield captured


def sent(*each: Mapping[str, Any]) -> list[bool]:
    """Which of these events are sent."""
    return [track_event(TEXT, {"model": "m", **fields}) is not None for fields in each]


def test_a_share_is_sent_and_says_so(events: Captured) -> None:
    """2,000 events: 500 expected, give or take six standard deviations; the others are counted."""
    taken = sent(*[{}] * 2_000)

    assert sum(taken) == len(events) == pytest.approx(500, abs=117)
    assert {event.data["sample_rate"] for event in events} == {0.25}
    assert events.dropped == {"sampled": 2_000 - len(events)}
    events[0].validated()


def test_other_types_are_sent_whole(events: Captured) -> None:
    """And say nothing of it, so that their rows are as ever."""
    for _ in range(50):
        track_event("image_generation", {"model": "m"})

    assert len(events) == 50
    assert "sample_rate" not in events[0].data


@pytest.mark.parametrize("fields", [{"status": "error"}, {"error": ValueError("x")}, {"error": {"type": "a"}}])
def test_errors_are_sent_whole(events: Captured, fields: dict[str, Any]) -> None:
    """However they say so; unless the operator asks for less."""
    assert all(sent(*[fields] * 50))
    assert "sample_rate" not in events[0].data
    birdfeed.configure(sample="text_generation=0.25", sample_errors=True, queue="q")

    assert 0 < sum(sent(*[fields] * 200)) < 200


def test_no_error_is_no_error(events: Captured) -> None:
    """As `track` and forms give it."""
    nothings: list[Any] = [None, "", {}]
    for nothing in nothings:
        assert sum(sent(*[{"error": nothing, "status": "success"}] * 100)) < 100


def test_a_retried_event_gets_the_same_choice(events: Captured) -> None:
    """By its key, whatever the trace of each try is."""
    keys = [str(uuid4()) for _ in range(200)]
    first = sent(*({"idempotency_key": key, "trace_id": str(uuid4())} for key in keys))
    again = sent(*({"idempotency_key": key, "trace_id": str(uuid4())} for key in keys))

    assert first == again
    assert 0 < sum(first) < 200
    assert events[0].event_id == events[sum(first)].event_id


def test_a_trace_has_all_or_none(events: Captured) -> None:
    """In either spelling; an empty key or trace is none."""
    traces = [uuid4().hex for _ in range(100)]
    first = sent(*({"trace_id": trace} for trace in traces))

    assert sent(*({"traceId": trace, "idempotency_key": ""} for trace in traces)) == first
    assert 0 < sum(first) < 100
    assert 0 < sum(sent(*[{"trace_id": ""}] * 100)) < 100


def test_what_a_larger_share_sends_holds_what_a_smaller_one_does() -> None:
    """So that two services, or two types, of one trace tell of the same traces."""
    traces = [{"trace_id": uuid4().hex} for _ in range(200)]
    with capture(sample={"text_generation": 0.2}):
        few = sent(*traces)
    with capture(sample={"text_generation": 0.6}):
        many = sent(*traces)

    assert all(more for less, more in zip(few, many, strict=True) if less)
    assert sum(few) < sum(many)


def test_an_event_that_was_sampled_already_is_sent(events: Captured) -> None:
    """Its own share stands."""
    assert all(sent(*[{"sample_rate": 0.01}, {"sampleRate": 0.01}] * 50))
    assert {event.data["sample_rate"] for event in events} == {0.01}


def test_tracked_work_is_sampled(events: Captured) -> None:
    """The decorator's and the integrations' events are events like others; work that raised is sent."""
    for _ in range(100):
        with track("text_generation", model="m") as event:
            event["usage"] = {"prompt_tokens": 1}
    taken = len(events)
    for _ in range(20):
        with pytest.raises(KeyError), track("text_generation", model="m"):
            raise KeyError("x")

    assert 0 < taken < 100
    assert len(events) == taken + 20


def test_what_is_no_mapping_is_counted_as_that(events: Captured) -> None:
    """Sampling reads the data first."""
    bad: Any = 5

    assert track_event(TEXT, bad) is None
    assert events.dropped == {"bad_call": 1}


def test_the_hook_sees_what_is_sent_alone() -> None:
    """It costs nothing for the others."""
    seen: list[float] = []

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(event["event_data"]["sample_rate"])
        return event

    with capture() as events:
        birdfeed.configure(sample={"text_generation": 0.25}, before_send=hook, redis_url="redis://127.0.0.1:1/0")
        sent(*[{}] * 100)

        assert seen == [0.25] * len(events)
        assert 0 < len(events) < 100


def test_all_is_no_sampling() -> None:
    """A share of 1 changes no event."""
    with capture(sample={"text_generation": 1}) as events:
        assert all(sent({}, {"trace_id": "t"}))
        assert "sample_rate" not in events[0].data


@pytest.mark.parametrize("wrong", ["text_generation", "a=0", "a=2", "=0.5", {"a": 0}, {"a": 2}])
def test_a_wrong_share_is_refused(wrong: Any) -> None:
    """Where the program starts."""
    with capture(), pytest.raises(ConfigurationError, match=r"(?i)sample"):
        birdfeed.configure(sample=wrong)


def test_what_is_tracked_is_what_is_counted(events: Captured) -> None:
    """The ledger's drops have the event's type."""
    sent(*[{}] * 100)

    drops = current_client().counters.take_unreported()
    assert drops == {("text_generation", "sampled"): 100 - len(events)}
