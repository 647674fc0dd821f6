"""One event priced for the command line: the whole result, and invalid events."""

from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed_worker.pricing.price.record import RecordError, price_line

from tests.support.pricing.cases import NOW, SHIPPED, book


def test_the_whole_result() -> None:
    """Each field as the command line prints it."""
    record = {
        "event_type": "text_generation",
        "event_data": {
            "model": "openai",
            "modelUsed": "gpt-4.1-nano",
            "usage": {"promptTokens": "50", "completionTokens": 100},
        },
    }

    assert price_line(record, SHIPPED) == {
        "cost": "0.000045",
        "cost_status": "priced",
        "usage_status": "ok",
        "tokens": {"prompt_text": 50, "completion_text": 100},
        "price_match": "alias",
        "price_model": "openai",
        "provider": "azure-openai",
    }


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        ({"model": "x"}, "0"),
        ({"model": "flux", "num_images": 500}, "1"),
        ({"model": "flux", "num_images": 5000}, "10"),
        ({"model": "veo", "video_seconds": 0.000001}, "0.00000008"),
    ],
)
def test_cost_is_a_plain_number(data: dict[str, Any], cost: str) -> None:
    """Without exponent and trailing zeros; other zeros are kept."""
    assert cost == price_line({"event_type": "image_generation", "event_data": data}, SHIPPED)["cost"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "a record is an object with event_type and event_data"),
        ([], "a record is an object with event_type and event_data"),
        ({}, "event_type: None is not one of image_generation, text_generation"),
        (
            {"event_type": "nope", "event_data": {}},
            "event_type: 'nope' is not one of image_generation, text_generation",
        ),
        ({"event_type": ["text_generation"]}, "event_type: ['text_generation'] is not one of"),
        ({"event_type": "text_generation"}, "event_data: Input should be a valid dictionary"),
        ({"event_type": "text_generation", "event_data": {}}, "event_data.model: Field required"),
        (
            {"event_type": "text_generation", "event_data": {"model": 5}},
            "event_data.model: Input should be a valid string",
        ),
        (
            {"event_type": "text_generation", "event_data": {"model": "m"}, "occurred_at": "soon"},
            "occurred_at: a time must be",
        ),
    ],
)
def test_invalid_events(record: object, reason: str) -> None:
    """A clear message."""
    with pytest.raises(RecordError) as caught:
        price_line(record, SHIPPED)

    assert reason in str(caught.value)


def test_the_date() -> None:
    """start_time, else the record's occurred_at, else now."""
    dated = book(
        '[[model]]\nname = "m"\nunit = "token"\nprice = [{ until = 2026-01-01, prompt_text = 3 }, '
        "{ from = 2026-01-01, prompt_text = 1 }]\n"
    )

    def cost(now: datetime | None = None, occurred_at: object = None, **data: object) -> object:
        event = {"model": "m", "usage": {"prompt_tokens": 1_000_000}, **data}
        record = {"event_type": "text_generation", "event_data": event, "occurred_at": occurred_at}
        return price_line(record, dated, now)["cost"]

    assert cost(NOW, "2026-02-01", start_time="2025-12-31") == "3"
    assert cost(NOW, "2025-12-31T10:00:00Z") == "3"
    assert cost(datetime(2025, 1, 1, tzinfo=UTC)) == "3"
    assert cost() == "1"
