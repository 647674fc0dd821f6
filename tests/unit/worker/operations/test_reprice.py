"""Repricing a stored row gives the same as enriching its event with the new book."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from birdfeed_schemas.datafiles import columns_of, former_columns
from birdfeed_worker.operations.reprice.judge import REASONS, Correction, Unchanged, reprice
from birdfeed_worker.operations.reprice.row_reader import (
    Hour,
    Selection,
    _windows,
    later_than,
    to_json,
)
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.tinybird.lookup import sql_text

from tests.support.rows import filled
from tests.support.stored import rows_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=3)
OLD = """
service_tiers = { batch = 0.5 }

[[model]]
name = "chat"
original_name = "chat-1"
unit = "token"
price = { prompt_text = 1, prompt_audio = 3, completion_text = 4 }

[[model]]
name = "picture"
unit = "image"
price = { image = 0.04, variants = [{ when = { quality = "hd", size = "1024x1024" }, image = 0.08 }] }

[[model]]
name = "pixels"
unit = "megapixel"
price = { megapixel = 0.003 }

[[model]]
name = "film"
unit = "second"
price = { video_second = 0.083333333333 }
"""
NEW = """
service_tiers = { batch = 0.25, flex = 0.333333 }

[[model]]
name = "chat"
aliases = ["chat-1"]
unit = "token"
price = [
  { until = 2026-11-23, prompt_text = 100 },
  { from = 2026-11-23, prompt_text = 1.5, prompt_cached = 0.000000000001, completion_text = 4, \
completion_reasoning = 9 },
]

[[model]]
name = "chat-2"
unit = "token"
price = { prompt_text = 2, prompt_image = 7, completion_text = 4 }

[[model]]
name = "picture"
unit = "token"
price = { completion_image = 30, prompt_text = 1 }

[[model]]
name = "pixels"
unit = "image"
price = { image = 0.5, variants = [{ when = { has_input_image = true }, image = 0.6 }] }

[[model]]
name = "film"
unit = "second"
price = { video_second = 0.1, audio_second = 0.033333333333 }
"""
RECEIPT = ("cost_exact", "cost_status", "price_match", "price_model", "price_source", "price_rates")


def books_of(folder: Path, name: str, text: str) -> BookSource:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return BookSource(path)


@pytest.fixture
def old(tmp_path: Path) -> BookSource:
    return books_of(tmp_path, "old", OLD)


@pytest.fixture
def new(tmp_path: Path) -> BookSource:
    return books_of(tmp_path, "new", NEW)


def rows(books: BookSource, event_type: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = rows_of(books, event_type, [(NOON, event) for event in events], NOON)
    return [filled(orjson.loads(row)) for row in made]


def some_events(dice: random.Random, number: int) -> list[dict[str, Any]]:
    """Events with what a row keeps: no start_time (rows keep theirs), no zeros that mean the same as nothing."""

    def count() -> int:
        return dice.choice((0, 1, dice.randrange(10_000), dice.randrange(2**60)))

    def usage() -> Any:
        good = {
            "prompt_tokens": count(),
            "completion_tokens": count(),
            "prompt_tokens_details": {"cached_tokens": count(), "audio_tokens": count(), "image_tokens": count()},
            "completion_tokens_details": {"reasoning_tokens": count(), "image_tokens": count()},
        }
        return dice.choice((good, good, good, None, {"prompt_tokens": -1}))

    return [
        {
            "model": dice.choice(("chat", "chat-1", "chat-2", "picture", "pixels", "film", "unknown-one")),
            "model_used": dice.choice((None, "chat-1", "chat-2", "picture", "else")),
            "provider": dice.choice((None, "maker")),
            "service_tier": dice.choice((None, "", "batch", "flex", "nobody-knows")),
            "status": dice.choice(("success", "error", None)),
            "usage": usage(),
            "image_size": dice.choice((None, "1024x1024", "1024X1024", "x", "1x1")),
            "quality": dice.choice((None, "hd")),
            "has_input_image": dice.choice((None, True, False)),
            "num_images": dice.choice((None, 1, 7)),
            "video_seconds": dice.choice((None, 1 / 3, 5, dice.random() * 1e6)),
            "audio_seconds": dice.choice((None, "2.5")),
        }
        for _ in range(number)
    ]


@pytest.mark.heavy
@pytest.mark.parametrize("event_type", ["text_generation", "image_generation"])
def test_repricing_equals_enriching_with_the_new_book(event_type: str, old: BookSource, new: BookSource) -> None:
    """For thousands of random events: the same cost and receipt, and no other change of the row."""
    events = some_events(random.Random(7), 4_000)
    seen = set()
    for was, wanted in zip(rows(old, event_type, events), rows(new, event_type, events), strict=True):
        judged = reprice(was, new.current(), LATER)
        got = judged.row if isinstance(judged, Correction) else was
        seen.add(judged.reason if isinstance(judged, Unchanged) else "corrected")
        # The row repeats the requested model where the event named none that answered: either way it is this price.
        same_name = was["model"] == was["model_used"]
        compared = [name for name in RECEIPT if not (same_name and name == "price_match")]
        assert {name: got[name] for name in compared} == {name: wanted[name] for name in compared}, was
        if isinstance(judged, Correction):
            assert got["enriched_at"] > was["enriched_at"]
            assert {name for name in was if was[name] != got[name]} <= {
                *RECEIPT,
                *("price_book", "enriched_at"),
                # Output that no detail accounts for is images where the price has a rate for them.
                *(("tokens",) if event_type == "image_generation" else ()),
            }
            assert (judged.old, judged.new) == (Decimal(was["cost_exact"]), Decimal(wanted["cost_exact"]))

    assert {"corrected", "same_price"} <= seen <= {"corrected", "same_price", "same_book"}


def test_the_same_book_changes_nothing(old: BookSource) -> None:
    """Priced rows are skipped because of the book's hash; the others because they still have no price."""
    for row in rows(old, "text_generation", some_events(random.Random(8), 500)):
        judged = reprice(row, old.current(), LATER)

        assert isinstance(judged, Unchanged)
        assert judged.reason == ("same_book" if row["price_book"] else "same_price")


def test_the_price_of_the_rows_start_is_used(old: BookSource, new: BookSource) -> None:
    """Yesterday's request has yesterday's price."""
    start = (NOON - timedelta(hours=20)).isoformat()
    row = rows(old, "text_generation", [{"model": "chat", "usage": {"prompt_tokens": 10}, "start_time": start}])[0]
    judged = reprice(row, new.current(), LATER)

    assert isinstance(judged, Correction)
    assert judged.new == Decimal("0.001")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"cost_exact": "0.5"}, "receipt_mismatch"),
        ({"price_rates": '{"prompt_text":"9"}'}, "receipt_mismatch"),
        ({"price_rates": '{"strange":"9"}'}, "invalid_row"),
        ({"price_rates": "{"}, "invalid_row"),
        ({"model": "", "model_used": ""}, "invalid_row"),
        ({"event_type": "audio_generation"}, "unknown_event_type"),
    ],
)
def test_unsafe_rows_are_refused(old: BookSource, new: BookSource, changed: dict[str, Any], reason: str) -> None:
    """With a documented reason."""
    row = rows(old, "text_generation", [{"model": "chat", "usage": {"prompt_tokens": 10}}])[0]
    judged = reprice({**row, **changed}, new.current(), LATER)

    assert isinstance(judged, Unchanged)
    assert (judged.reason, judged.refused) == (reason, True)
    assert judged.reason in REASONS


def test_a_correction_is_always_newer() -> None:
    """Also newer than a row from a worker whose clock is ahead."""
    assert later_than("2026-11-23T12:00:00.000000Z", LATER) == "2026-11-26T12:00:00.000000Z"
    assert later_than("2027-01-01T00:00:00.999999Z", LATER) == "2027-01-01T00:00:01.000000Z"


@pytest.mark.parametrize("datasource", ["llm_events", "image_events"])
def test_every_column_finds_its_path(datasource: str, old: BookSource) -> None:
    """The worker's row is rebuilt exactly, except `cost`, which only the older table reads."""
    event_type = "text_generation" if datasource == "llm_events" else "image_generation"
    row = rows(old, event_type, [{"model": "chat", "usage": {"prompt_tokens": 2**62}, "duration": 0.1}])[0]

    def at(path: str) -> Any:
        value: Any = row
        for part in path.split(".")[1:]:
            value = value[part]
        return value

    answered = {
        column.name: str(at(column.path)) if column.type.startswith("UInt") else at(column.path)
        for column in (*columns_of(datasource), *former_columns(datasource))
    }
    answered |= {
        column.name: at(column.path).replace("T", " ").rstrip("Z")
        for column in columns_of(datasource)
        if column.type.startswith("DateTime")
    }

    assert to_json((*columns_of(datasource), *former_columns(datasource)), answered) == {
        name: value for name, value in row.items() if name != "cost"
    }


def test_windows_have_whole_hours_and_at_most_a_page() -> None:
    """Empty hours are left out, an hour with too many rows is its own window."""
    hours = [
        Hour(NOON + timedelta(hours=n), eligible + 1, eligible) for n, eligible in enumerate((3, 3, 0, 50, 1, 1, 9))
    ]
    windows = [((a - NOON).seconds // 3600, (b - NOON).seconds // 3600) for a, b in _windows(hours, 10)]

    assert windows == [(0, 1), (3, 3), (4, 5), (6, 6)]


def test_names_are_quoted_in_sql() -> None:
    """Quotes and backslashes don't end a literal."""
    assert sql_text("it's \\ me") == "'it\\'s \\\\ me'"
    assert "IN ('a\\'b')" in Selection(since=NOON, until=LATER, models=("a'b",)).where
