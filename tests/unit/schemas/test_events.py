"""Events: tolerant where SDKs differ, strict where a wrong value makes a wrong row."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from birdfeed_schemas.events import EventError, ImageGeneration, TextGeneration, read_time
from birdfeed_schemas.fields import ANY_TYPE, SPELLINGS
from birdfeed_schemas.registry import registry, spellings_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, ValidationError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", list(registry()))
def test_the_names_without_pydantic_are_those_of_the_models(name: str) -> None:
    """The producer filters with fields.py, the worker validates with events.py: they must agree."""
    event_type = registry()[name]
    names = {}
    for field, info in event_type.event.model_fields.items():
        alias = info.validation_alias
        choices = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [alias or field]
        names.update(dict.fromkeys(choices, field))

    assert names == SPELLINGS[name] == spellings_of(name)
    assert names.items() <= ANY_TYPE.items()


def test_camel_case_names_are_read() -> None:
    """As JavaScript services send them."""
    event = TextGeneration.model_validate(
        {"model": "m", "modelUsed": "u", "startTime": NOON.isoformat(), "requestId": 7, "userId": 42, "cacheHit": True}
    )
    assert (event.model_used, event.start_time, event.request_id, event.user) == ("u", NOON, "7", "42")
    assert event.cache_hit is True


@pytest.mark.parametrize(
    "when",
    [
        "2026-11-23T12:00:00Z",
        "2026-11-23T13:00:00+01:00",
        "2026-11-23T12:00:00",
        1795435200,
        1795435200000,
        "1795435200",
        1795435200.0,
        NOON,
        NOON.replace(tzinfo=None),
    ],
)
def test_times_in_all_formats(when: object) -> None:
    """ISO text, epoch seconds and milliseconds, datetimes with and without a zone."""
    assert read_time(when) == NOON


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1712010201230", datetime(2024, 4, 1, 22, 23, 21, 230_000, tzinfo=UTC)),
        ("1712010201230.5", datetime(2024, 4, 1, 22, 23, 21, 230_500, tzinfo=UTC)),
        ("17120102012", datetime(2200, 1, 1, tzinfo=UTC)),
        ("20240401", datetime(2024, 4, 1, tzinfo=UTC)),
        ("20240401T222321", datetime(2024, 4, 1, 22, 23, 21, tzinfo=UTC)),
    ],
)
def test_digits_are_an_epoch_and_eight_of_them_a_date(text: str, when: datetime) -> None:
    """Some epochs in milliseconds look like a day and an hour in ISO 8601's basic form."""
    found = read_time(text)

    assert found is not None
    assert abs((found - when).total_seconds()) < 0.7


@given(st.integers(min_value=10**12, max_value=2 * 10**12))
def test_epoch_milliseconds_are_the_same_as_text_and_as_a_number(number: int) -> None:
    """Whatever their digits."""
    assert read_time(str(number)) == read_time(number)


@given(st.floats() | st.integers())
def test_no_number_breaks_a_time(number: float) -> None:
    """An impossible time is clamped here and flagged later; only NaN is invalid."""
    if number != number:
        with pytest.raises(ValueError, match="NaN"):
            read_time(number)
    else:
        when = read_time(number)
        assert when is not None
        assert 1970 <= when.year <= 2200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 4.1),
        ("model", ""),
        ("model", None),
        ("status", "done"),
        ("start_time", "yesterday"),
        ("start_time", True),
        ("duration", -1),
        ("duration", "soon"),
        ("user", True),
        ("user", ["a"]),
        ("stream", "yes"),
        ("cost", "a lot"),
        ("cost", -1),
        ("cost", True),
    ],
)
def test_a_wrong_value_is_an_error(field: str, value: object) -> None:
    """A number in place of text, an unknown status: never guessed."""
    with pytest.raises(ValidationError) as caught:
        TextGeneration.model_validate({"model": "m", field: value})
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ("boom", EventError(message="boom")),
        ({"type": "E", "message": "m", "code": 429, "stack": "x"}, EventError(type="E", message="m", code="429")),
        ({"message": None}, EventError()),
        (None, None),
    ],
)
def test_errors_in_all_formats(given_: object, read: EventError | None) -> None:
    """Text, or an object with type, message, code and traceback."""
    assert TextGeneration.model_validate({"model": "m", "error": given_}).error == read


@pytest.mark.parametrize(
    ("fields", "failed"),
    [({}, False), ({"status": "error"}, True), ({"error": "x"}, True), ({"status": "success", "error": "x"}, False)],
)
def test_what_counts_as_failed(fields: dict[str, Any], failed: bool) -> None:
    """The status decides; without one, an error does."""
    assert TextGeneration.model_validate({"model": "m", **fields}).failed is failed


def test_image_fields() -> None:
    """Numbers as JSON has them; seconds exactly as written."""
    event = ImageGeneration.model_validate(
        {"model": "m", "imageSize": "1024x768", "numImages": "2", "hasInputImage": False, "videoSeconds": 5.0625}
    )
    assert (event.image_size, event.num_images, event.video_seconds) == ("1024x768", 2, Decimal("5.0625"))


@pytest.mark.parametrize("images", [2**63, 2**64, 10**400, -1, 1.5])
def test_a_number_of_images_that_no_column_holds_is_invalid(images: object) -> None:
    """The event is dead-lettered, with a short sentence."""
    with pytest.raises(ValidationError) as caught:
        ImageGeneration.model_validate({"model": "flux", "num_images": images})

    assert [part["loc"] for part in caught.value.errors()] == [("num_images",)]
