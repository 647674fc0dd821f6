"""A misspelt field is logged once, with the probable name; fields that are dropped on purpose are not."""

import logging

import pytest
from birdfeed import EventType, track_event
from birdfeed.testing import capture
from birdfeed_schemas.event_structs import STRUCTS
from birdfeed_schemas.registry import registry


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "birdfeed")
    return caplog


def test_a_misspelt_field_is_logged_once(said: pytest.LogCaptureFixture) -> None:
    """Each name of each type, without its value; the event is sent without it."""
    with capture() as captured:
        for _ in range(3):
            track_event(EventType("text_generation"), {"model": "m", "usr": "hunter2", "prompt": "p", "xyzzy": 1})
        track_event(EventType("image_generation"), {"model": "m", "qualty": "hd"})

    assert [record.getMessage() for record in said.records] == [
        "the field usr of text_generation is not stored; did you mean user?",
        "the field xyzzy of text_generation is not stored",
        "the field qualty of image_generation is not stored; did you mean quality?",
    ]
    assert [event.dropped_fields for event in captured] == [3, 3, 3, 1]


def test_what_is_dropped_inside_a_field_is_not_logged(said: pytest.LogCaptureFixture) -> None:
    """Only names at the top level are fields; names that are dropped on purpose, or invalid, are ignored."""
    with capture():
        track_event(EventType("text_generation"), {"model": "m", "usage": {"a b": 1}, "messages": [], "two words": 1})

    assert said.records == []


def test_there_is_a_bound(said: pytest.LogCaptureFixture) -> None:
    """Because names may come from outside."""
    with capture():
        for number in range(200):
            track_event(EventType("text_generation"), {"model": "m", f"name_{number}": 1})
        track_event(EventType("text_generation"), {f"odd_{number}": 1 for number in range(10_000)})

    assert len(said.records) == 50


def test_the_structs_have_every_field() -> None:
    """Events with a field that is missing there would take the slow path."""
    for event_type, struct in STRUCTS.items():
        assert set(struct.__struct_fields__) == set(registry()[event_type].event.model_fields)


def test_an_unknown_type_is_logged_with_the_nearest_known_one(said: pytest.LogCaptureFixture) -> None:
    """Once; without a similar type there is no guess."""
    with capture():
        for name in ("text_generaton", "text_generaton", "audio_generation"):
            track_event(EventType(name), {"model": "m"})

    end = "is known here; where workers don't know it either, its events are dead letters"
    assert [record.getMessage() for record in said.records] == [
        f"no event type 'text_generaton' {end}; did you mean text_generation?",
        f"no event type 'audio_generation' {end}",
    ]
