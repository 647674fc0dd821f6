"""Enrich: a row's time, tier and images are those with which its price was found."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Header
from birdfeed_worker.model import Item
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.reload import BookSource

from tests.support.events import envelope
from tests.support.rows import filled

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BOOK = """
[[model]]
name = "dated"
unit = "token"
price = [
  { until = 2026-11-23, prompt_text = 1 },
  { from = 2026-11-23, until = 2030-01-01, prompt_text = 2 },
  { from = 2030-01-01, prompt_text = 3 },
]

[[model]]
name = "picture"
unit = "image"
price = { image = 0.5 }
"""


class Everyone:
    """Knows every user, and records the lookups."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def recall(self, users: Collection[str]) -> Mapping[str, str] | None:
        return self.look_up(users) if self.asked.issuperset(users) else None

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        self.asked |= set(users)
        return dict.fromkeys(users, "nectar")


@pytest.fixture
def everyone() -> Everyone:
    return Everyone()


@pytest.fixture
def enricher(tmp_path: Path, everyone: Everyone) -> Enricher:
    path = tmp_path / "prices.toml"
    path.write_text(BOOK)
    return Enricher(BookSource(path), everyone, extra_fields=frozenset(), keep_traceback=False)


def row_of(enricher: Enricher, event_type: str = "text_generation", **data: Any) -> dict[str, Any]:
    """The row of one event that is tracked at noon."""
    sent = envelope(data, event_type, NOON)
    item = Item(job_id="j", header=Header(batch_id="b", event_type=event_type, count=1), source=b"", envelope=sent)
    valid = validate(event_type, [item])
    assert valid, item.outcome
    enricher.enrich(registry()[event_type], valid, NOON)
    return filled(orjson.loads(item.row))


@pytest.mark.parametrize(
    ("start", "rate", "clamped"),
    [
        (None, "2", False),
        (NOON - timedelta(hours=13), "1", False),
        (NOON - timedelta(days=6), "1", False),
        (NOON - timedelta(days=8), "2", True),
        (0, "2", True),
        ("2199-01-01T00:00:00Z", "2", True),
    ],
)
def test_an_impossible_start_does_not_select_the_price(
    enricher: Enricher, start: object, rate: str, clamped: bool
) -> None:
    """The row's time is clamped to a possible one, and the price is the one in force then."""
    when = start.isoformat() if isinstance(start, datetime) else start
    row = row_of(enricher, model="dated", start_time=when, usage={"prompt_tokens": 9})

    assert (row["time_clamped"], orjson.loads(row["price_rates"])) == (clamped, {"prompt_text": rate})


def test_without_a_start_the_time_of_tracking_is_used(enricher: Enricher) -> None:
    """A request of fourteen hours without start_time is priced by occurred_at, although it began before."""
    row = row_of(enricher, model="dated", duration=14 * 3_600_000, usage={"prompt_tokens": 9})

    assert row["start_time"].startswith("2026-11-22T22:00")
    assert orjson.loads(row["price_rates"]) == {"prompt_text": "2"}


@pytest.mark.parametrize("tier", ["", "  ", None])
def test_an_empty_tier_is_not_a_tier(enricher: Enricher, everyone: Everyone, tier: str | None) -> None:
    """A missing tier is looked up."""
    row = row_of(enricher, model="dated", user="u1", tier=tier)

    assert everyone.asked == {"u1"}
    assert (row["tier"], row["tier_source"]) == ("nectar", "lookup")


def test_users_with_a_tier_are_not_looked_up(enricher: Enricher, everyone: Everyone) -> None:
    """Neither are missing users."""
    assert row_of(enricher, model="dated", user="u1", tier="seed")["tier"] == "seed"
    assert row_of(enricher, model="dated", user="")["tier"] == "anonymous"
    assert everyone.asked == set()


@pytest.mark.parametrize(
    ("data", "images", "cost"),
    [
        ({}, 1, "0.500000000000"),
        ({"status": "success"}, 1, "0.500000000000"),
        ({"status": "error"}, 0, "0.000000000000"),
        ({"error": "boom"}, 0, "0.000000000000"),
        ({"error": "boom", "num_images": 2}, 2, "1.000000000000"),
    ],
)
def test_a_failed_request_without_images_stores_none(
    enricher: Enricher, data: dict[str, Any], images: int, cost: str
) -> None:
    """The row counts the images that were priced; the default of one is for requests that worked."""
    row = row_of(enricher, "image_generation", model="picture", **data)

    assert (row["num_images"], row["cost_exact"]) == (images, cost)


@pytest.mark.parametrize(("dropped", "colour", "stored"), [(0, {}, 0), (2, {}, 2), (2, {"colour": "red"}, 3)])
def test_fields_that_are_not_stored_are_counted(
    enricher: Enricher, dropped: int, colour: dict[str, str], stored: int
) -> None:
    """Those that the producer dropped, and those that are not allowed."""
    sent = replace(envelope({"model": "dated", **colour}, when=NOON), dropped_fields=dropped)
    item = Item("j", Header(batch_id="b", event_type="text_generation", count=1), b"", sent)

    enricher.enrich(registry()["text_generation"], validate("text_generation", [item]), NOON)

    assert filled(orjson.loads(item.row))["dropped_fields"] == stored
