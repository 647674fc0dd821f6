"""Validate: only an invalid event is dead-lettered, with every reason; fields outside the model are kept if allowed."""

from typing import Any

import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Header
from birdfeed_worker.model import Dead, Deferred, Item
from birdfeed_worker.pipeline.validate import MAX_DETAIL, leftover, reasons, validate
from pydantic import TypeAdapter, ValidationError

from tests.support.events import envelope, text

TYPE = "text_generation"


def item(**data: Any) -> Item:
    return Item("j", Header(batch_id="b", event_type=TYPE, count=1), b"", envelope(data))


def test_valid_and_invalid_events_together() -> None:
    """In order; each invalid one has its own reasons, and events with an outcome are not changed."""
    good, other = item(**text()), item(**text(user="u"))
    bad, worse = item(**text(model=5)), item(**text(model=5, duration="soon"))
    settled = item(**text(model=5))
    settled.outcome = Deferred(5.0)

    valid = validate(TYPE, [good, bad, settled, worse, other])

    assert [one for one, _ in valid] == [good, other]
    assert [event.user for _, event in valid] == [None, "u"]
    assert [event for _, event in valid] == [good.event, other.event]
    assert (good.outcome, other.outcome, settled.outcome) == (None, None, Deferred(5.0))
    assert isinstance(bad.outcome, Dead)
    assert isinstance(worse.outcome, Dead)
    assert bad.outcome.reason == worse.outcome.reason == "invalid"
    assert bad.outcome.detail == "model: Input should be a valid string"
    assert worse.outcome.detail.startswith("model: Input should be a valid string; duration: ")


def test_all_events_are_valid_or_there_is_none() -> None:
    made = [item(**text(user=str(number))) for number in range(3)]

    assert [(one, event.user) for one, event in validate(TYPE, made)] == [
        (one, str(number)) for number, one in enumerate(made)
    ]
    assert validate(TYPE, []) == []


def test_what_was_decoded_by_a_struct_is_not_validated_again() -> None:
    """Its event is not changed; the others are validated."""
    first, second = item(**text()), item(**text(user="u"))
    first.event = registry()[TYPE].event.model_validate(text(user="typed"))
    first.envelope = None

    assert [event.user for _, event in validate(TYPE, [first, second])] == ["typed", "u"]


def test_an_unknown_type() -> None:
    """With a name of any length; events with an outcome keep it."""
    one, settled = item(**text()), item(**text())
    settled.outcome = Deferred(5.0)

    assert validate("no_such_type", [one, settled]) == []

    assert one.outcome == Dead("unknown_event_type", "no event type is named 'no_such_type'")
    assert settled.outcome == Deferred(5.0)
    validate("x" * 5_000, [long := item(**text())])
    assert isinstance(long.outcome, Dead)
    assert len(long.outcome.detail) == MAX_DETAIL


@pytest.mark.parametrize(
    ("data", "dropped", "kept"),
    [
        ({"status": "error"}, 0, {"status": "error", "model": "unknown"}),
        ({"status": "error", "model": None}, 0, {"status": "error", "model": "unknown"}),
        ({"status": "error", "model": 5}, 1, {"status": "error", "model": "unknown"}),
        ({"status": "error", "modelRequested": 5}, 1, {"status": "error", "model": "unknown"}),
        ({"error": "no", "model": "m", "duration": -1, "user": [1]}, 2, {"error": "no", "model": "m"}),
        (
            {"error": "no", "model": "m", "usage": {"x": [1]}, "userId": 1.5, "colour": 1},
            1,
            {"error": "no", "model": "m", "usage": {"x": [1]}, "colour": 1},
        ),
    ],
    ids=str,
)
def test_an_error_event_loses_its_invalid_fields(data: dict[str, Any], dropped: int, kept: dict[str, Any]) -> None:
    """In any of their spellings; null fields are not counted, fields dropped before still are."""
    one = item(**data)
    assert one.envelope is not None
    one.envelope.dropped_fields = 7

    ((_, event),) = validate(TYPE, [one])

    assert event.failed
    assert one.outcome is None
    assert (one.envelope.data, one.envelope.dropped_fields) == (kept, 7 + dropped)


@pytest.mark.parametrize("data", [{"model": 5}, {"model": 5, "status": "success"}, {"status": 5}])
def test_an_event_without_an_error_is_dead_lettered_whole(data: dict[str, Any]) -> None:
    """None of its fields is dropped."""
    one = item(**data)
    assert one.envelope is not None

    assert validate(TYPE, [one]) == []

    assert isinstance(one.outcome, Dead)
    assert (one.envelope.data, one.envelope.dropped_fields) == (data, 0)


def test_reasons_name_the_field_and_never_the_value() -> None:
    """Cut to a number of characters."""
    bad = item(**text(error={"code": [1, 2]}, model={"secret": 1}, user=["secret"], num_images="x" * 900))

    validate(TYPE, [bad])

    assert isinstance(bad.outcome, Dead)
    assert bad.outcome.detail.startswith("model: ")
    assert "secret" not in bad.outcome.detail
    assert len(bad.outcome.detail) <= MAX_DETAIL


def test_a_reason_names_the_field() -> None:
    """With the part of the field; `event` if it is about the whole event."""

    def told(kind: Any, value: Any) -> str:
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(kind).validate_python(value)
        return reasons(caught.value)

    assert told(dict[str, list[int]], {"a": [1, "x"]}).startswith("a.1: ")
    assert told(int, "x").startswith("event: ")


@pytest.mark.parametrize(
    ("data", "extra", "left"),
    [
        (text(), (), ({}, 0)),
        (text(), ("colour",), ({}, 0)),
        (text(modelUsed="x"), (), ({}, 0)),
        (text(colour="red"), (), ({}, 1)),
        (text(colour="red", shape="round"), ("colour",), ({"colour": "red"}, 1)),
        (text(shape="round", colour=None), ("colour", "shape"), ({"colour": None, "shape": "round"}, 0)),
        # The model's own fields are not kept again, even if the operator allows their names.
        (text(colour="red", user="u"), ("colour", "user"), ({"colour": "red"}, 0)),
        ({}, ("colour",), ({}, 0)),
    ],
    ids=str,
)
def test_fields_outside_the_model(data: dict[str, Any], extra: tuple[str, ...], left: Any) -> None:
    """Kept if the operator allows them, else counted; a model's other spellings are its own fields."""
    found = leftover(TYPE, data, frozenset(extra))

    assert found == left
    assert list(found[0]) == sorted(found[0])


def test_a_type_without_spellings_keeps_everything() -> None:
    assert leftover("no_such_type", {"a": 1, "b": 2}, frozenset({"b"})) == ({"b": 2}, 1)
