"""birdfeed_worker.testing: the row of an event that a program's test captured."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import birdfeed
import pytest
from birdfeed import EventType
from birdfeed.testing import CapturedEvent, capture
from birdfeed_schemas.datafiles import columns_of
from birdfeed_worker.errors import DeadEventError
from birdfeed_worker.testing import priced

BOOK = """
[[model]]
name = "own-model"
provider = "acme"
unit = "token"
price = { prompt_text = 2, completion_text = 4 }
"""


def captured(event_type: str = "text_generation", **fields: Any) -> CapturedEvent:
    """One event as a program sends it."""
    with capture(extra_fields="team") as events:
        birdfeed.track_event(EventType(event_type), fields)
    return events.only


def test_a_row_has_its_cost_and_every_column(tmp_path: Path) -> None:
    """By the operator's own book: 10 at 2, and 5 at 4 USD a million."""
    book = tmp_path / "prices.toml"
    book.write_text(BOOK)
    event = captured(
        model="own-model",
        usage={"prompt_tokens": 10, "completion_tokens": 5},
        start_time="2026-11-28T10:00:00Z",
        duration=1500,
        chat_id="c",
        team="blue",
        prompt="secret",
    )
    row = priced(event, price_book=book, extra_fields=frozenset({"team"}))

    assert list(row) == [column.name for column in columns_of("llm_events")]
    assert (row["cost"], row["cost_status"], row["price_source"]) == (Decimal("0.00004"), "priced", "operator")
    assert (row["prompt_text_tokens"], row["completion_text_tokens"], row["prompt_cached_tokens"]) == (10, 5, 0)
    assert row["timestamp"] == datetime(2026, 11, 28, 10, tzinfo=UTC)
    assert (row["end_time"] - row["timestamp"]).total_seconds() == 1.5
    assert (row["event_id"], row["response_status"], row["chat_id"]) == (event.event_id, "success", "c")
    assert (row["requests"], row["sample_rate"], row["environment"], row["cache_hit"]) == (1, 1, "", False)
    assert (row["extra"], row["dropped_fields"]) == ('{"team":"blue"}', 1)


def test_shipped_prices_and_given_tiers() -> None:
    """Without the operator's own file; a user's tier comes from the dict."""
    event = captured(model="gpt-4o-mini", provider="openai", user="ada", usage={"prompt_tokens": 1_000_000})

    assert (row := priced(event, tiers={"ada": "gold"}))["tier"] == "gold"
    assert (row["cost"], row["cost_status"]) == (Decimal("0.15"), "priced")
    assert priced(event)["tier"] == "unknown"


def test_an_image() -> None:
    """A row of the other table."""
    row = priced(captured("image_generation", model="m", image_size="10x20", cost="0.5"))

    assert list(row) == [column.name for column in columns_of("image_events")]
    assert (row["width"], row["height"], row["num_images"], row["cost"]) == (10, 20, 1, Decimal("0.5"))


@pytest.mark.parametrize(
    ("event_type", "fields", "reason", "detail"),
    [
        ("text_generation", {"usage": {}}, "invalid", "model"),
        ("text_generaton", {"model": "m"}, "unknown_event_type", "text_generation"),
    ],
)
def test_a_dead_letter_has_no_row(event_type: str, fields: dict[str, Any], reason: str, detail: str) -> None:
    """The error has the dead letter's reason."""
    with pytest.raises(DeadEventError, match=detail) as told:
        priced(captured(event_type, **fields))

    assert told.value.reason == reason
