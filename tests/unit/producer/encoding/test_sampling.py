"""A share of a type's events: which are sent, with which fields, and how the others are counted."""

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


def test_a_share_is_sent_with_its_sample_rate(events: Captured) -> None:
    """2,000 events: 500 expected, within six standard deviations; the others are counted."""
    taken = sent(*[{}] * 2_000)

    assert sum(taken) == len(events) == pytest.approx(500, abs=117)
    assert {event.data["sample_rate"] for event in events} == {0.25}
    assert events.dropped == {"sampled": 2_000 - len(events)}
    events[0].validated()


def test_all_events_of_other_types_are_sent(events: Captured) -> None:
    """Without a sample rate, so that their rows don't change."""
    for _ in range(50):
        track_event("image_generation", {"model": "m"})

    assert len(events) == 50
    assert "sample_rate" not in events[0].data


@pytest.mark.parametrize("fields", [{"status": "error"}, {"error": ValueError("x")}, {"error": {"type": "a"}}])
def test_all_errors_are_sent(events: Captured, fields: dict[str, Any]) -> None:
    """In every form of an error; unless the operator sets a share for them."""
    assert all(sent(*[fields] * 50))
    assert "sample_rate" not in events[0].data
    birdfeed.configure(sample="text_generation=0.25", sample_errors=True, queue="q")

    assert 0 < sum(sent(*[fields] * 200)) < 200


def test_an_empty_error_is_not_an_error(events: Captured) -> None:
    """As from `track` and forms."""
    nothings: list[Any] = [None, "", {}]
    for nothing in nothings:
        assert sum(sent(*[{"error": nothing, "status": "success"}] * 100)) < 100


def test_a_retried_event_gets_the_same_choice(events: Captured) -> None:
    """By its key, with any trace id of each try."""
    keys = [str(uuid4()) for _ in range(200)]
    first = sent(*({"idempotency_key": key, "trace_id": str(uuid4())} for key in keys))
    again = sent(*({"idempotency_key": key, "trace_id": str(uuid4())} for key in keys))

    assert first == again
    assert 0 < sum(first) < 200
    assert events[0].event_id == events[sum(first)].event_id


def test_all_or_no_events_of_a_trace_are_sent(events: Captured) -> None:
    """In either spelling; an empty key or trace id counts as missing."""
    traces = [uuid4().hex for _ in range(100)]
    first = sent(*({"trace_id": trace} for trace in traces))

    assert sent(*({"traceId": trace, "idempotency_key": ""} for trace in traces)) == first
    assert 0 < sum(first) < 100
    assert 0 < sum(sent(*[{"trace_id": ""}] * 100)) < 100


def test_a_larger_share_includes_a_smaller_one() -> None:
    """So two services, or two types, of one trace send the same traces."""
    traces = [{"trace_id": uuid4().hex} for _ in range(200)]
    with capture(sample={"text_generation": 0.2}):
        few = sent(*traces)
    with capture(sample={"text_generation": 0.6}):
        many = sent(*traces)

    assert all(more for less, more in zip(few, many, strict=True) if less)
    assert sum(few) < sum(many)


def test_an_event_that_was_sampled_already_is_sent(events: Captured) -> None:
    """It keeps its own share."""
    assert all(sent(*[{"sample_rate": 0.01}, {"sampleRate": 0.01}] * 50))
    assert {event.data["sample_rate"] for event in events} == {0.01}


def test_tracked_work_is_sampled(events: Captured) -> None:
    """The events of the decorator and the integrations are sampled, too; work that raised is sent."""
    for _ in range(100):
        with track("text_generation", model="m") as event:
            event["usage"] = {"prompt_tokens": 1}
    taken = len(events)
    for _ in range(20):
        with pytest.raises(KeyError), track("text_generation", model="m"):
            raise KeyError("x")

    assert 0 < taken < 100
    assert len(events) == taken + 20


def test_data_that_is_not_a_mapping_is_counted_as_such(events: Captured) -> None:
    """Although sampling reads the data first."""
    bad: Any = 5

    assert track_event(TEXT, bad) is None
    assert events.dropped == {"bad_call": 1}


def test_the_hook_gets_only_what_is_sent() -> None:
    """It is not called for the others."""
    seen: list[float] = []

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(event["event_data"]["sample_rate"])
        return event

    with capture() as events:
        birdfeed.configure(sample={"text_generation": 0.25}, before_send=hook, redis_url="redis://127.0.0.1:1/0")
        sent(*[{}] * 100)

        assert seen == [0.25] * len(events)
        assert 0 < len(events) < 100


def test_a_share_of_1_is_no_sampling() -> None:
    """No event is changed."""
    with capture(sample={"text_generation": 1}) as events:
        assert all(sent({}, {"trace_id": "t"}))
        assert "sample_rate" not in events[0].data


@pytest.mark.parametrize("wrong", ["text_generation", "a=0", "a=2", "=0.5", {"a": 0}, {"a": 2}])
def test_a_wrong_share_is_refused(wrong: Any) -> None:
    """When the program starts."""
    with capture(), pytest.raises(ConfigurationError, match=r"(?i)sample"):
        birdfeed.configure(sample=wrong)


def test_the_type_that_is_tracked_is_counted(events: Captured) -> None:
    """The ledger's drops have the event's type."""
    sent(*[{}] * 100)

    drops = current_client().counters.take_unreported()
    assert drops == {("text_generation", "sampled"): 100 - len(events)}
