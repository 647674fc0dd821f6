"""Rows: every field has a column and a path, and what goes in comes out of the event."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import orjson
import pytest
from birdfeed_sandbox.datafiles import Datasource, parse_datasource
from birdfeed_schemas.envelope import Envelope
from birdfeed_schemas.facts import Price, Tier, Tokens, Usage
from birdfeed_schemas.registry import EventType, registry
from birdfeed_schemas.rows import MAX_EXTRA, Enriched, bounded_json, image_dimensions, moderation_verdicts, times
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "019afc3e-5a3c-7d10-8000-000000000001"
TYPES = list(registry().values())


def row_of(event_type: EventType, data: dict[str, Any], **enriched: Any) -> dict[str, Any]:
    """The row of an event whose facts don't matter."""
    facts: dict[str, Any] = {
        "usage": Usage(status="ok", tokens=Tokens(prompt_text=3, completion_text=4, prompt_cached=5)),
        "price": Price(cost=Decimal("0.000000000001"), cost_status="priced", price_match="name", rates={"a": "1"}),
        "tier": Tier(tier="seed", source="event"),
        "enriched_at": NOON,
        "extra": {},
        **enriched,
    }
    envelope = Envelope(event_id=ID, event_type=event_type.name, occurred_at=NOON, data=data)
    return event_type.build_row(Enriched(envelope=envelope, event=event_type.event.model_validate(data), **facts))


def leaves(model: type[BaseModel], prefix: str = "$") -> dict[str, Any]:
    """Every path of a row model, with its type."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update(leaves(kind, f"{prefix}.{name}"))
        else:
            found[f"{prefix}.{name}"] = kind
    return found


def datasource(name: str) -> Datasource:
    """A data source of the shipped Tinybird project."""
    file = files("birdfeed_schemas") / "data" / "datasources" / f"{name}.datasource"
    return parse_datasource(file.read_text(), name=name)


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_every_row_field_has_a_column_and_every_column_a_field(event_type: EventType) -> None:
    """Walked both ways: a path without a field would always be its default, a field without a column be lost."""
    paths = {str(column.path) for column in datasource(event_type.datasource).columns}
    fields = set(leaves(event_type.row))
    for_the_existing_table = {"$.cost"}  # its Float32 column; ours reads $.cost_exact

    assert paths - fields == set()
    assert fields - paths == for_the_existing_table


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_a_built_row_is_the_model(event_type: EventType) -> None:
    """Rows are plain dicts for speed; the model is the truth they are held to, field by field and type by type."""
    row = row_of(event_type, {"model": "m", "error": {"message": "x" * 5000, "traceback": "secret"}})

    event_type.row.model_validate(row, strict=True)
    assert len(row["exception"]) == 1000
    assert row["traceback"] == ""
    assert row["cost_exact"] == "0.000000000001"


def test_the_columns_without_a_default_are_always_there() -> None:
    """The existing llm_events has no default for these four: without them every row would be quarantined."""
    row = row_of(registry()["text_generation"], {"model": "m"})

    assert (row["start_time"], row["end_time"]) == ("2026-11-23T12:00:00.000000Z",) * 2
    assert (row["message_id"], row["response"]["id"]) == (ID, "")


S = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("start", "end", "duration", "expected"),
    [
        (None, None, None, (NOON, NOON, 0.0, False)),
        (None, None, 2000.0, (NOON - 2 * S, NOON, 2000.0, False)),
        (NOON - 5 * S, None, 2000.0, (NOON - 5 * S, NOON - 3 * S, 2000.0, False)),
        (NOON - 5 * S, NOON - S, None, (NOON - 5 * S, NOON - S, 4000.0, False)),
        (None, NOON - S, 2000.0, (NOON - 3 * S, NOON - S, 2000.0, False)),
        (datetime(1970, 1, 1, tzinfo=UTC), None, 2000.0, (NOON - 2 * S, NOON, 2000.0, True)),
        (datetime(2199, 1, 1, tzinfo=UTC), None, None, (NOON, NOON, 0.0, True)),
        (NOON - S, NOON - 5 * S, None, (NOON - S, NOON, 1000.0, True)),
        (None, None, 1e12, (NOON, NOON, 0.0, True)),
    ],
)
def test_times_follow_from_what_is_known(
    start: datetime | None, end: datetime | None, duration: float | None, expected: tuple[Any, ...]
) -> None:
    """What is missing follows from the rest; what can't be true is replaced and flagged."""
    assert times(NOON, start, end, duration) == expected


moments = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(moments, moments, st.none() | st.floats(min_value=0, max_value=1e12))
def test_no_times_make_an_absurd_row(start: datetime | None, end: datetime | None, duration: float | None) -> None:
    """Start and end stay near occurred_at, in order, whatever came in."""
    first, last, length, _ = times(NOON, start, end, duration)

    assert NOON - timedelta(days=14) <= first <= last <= NOON + timedelta(days=8)
    assert 0 <= length <= 8 * 86_400_000


def test_moderation_keeps_verdicts_and_no_text() -> None:
    """Severities and booleans are data; what was matched is a prompt."""
    said = {"prompt": {"hate": {"filtered": True, "severity": "high"}, "quote": "what the user wrote, word by word"}}

    assert moderation_verdicts(said) == ({"prompt": {"hate": {"filtered": True, "severity": "high"}}}, True)
    assert moderation_verdicts({"hate": {"filtered": False}}) == ({"hate": {"filtered": False}}, False)
    assert moderation_verdicts(None) == ({}, False)


@pytest.mark.parametrize(
    ("size", "pixels"),
    [("1024x768", (1024, 768)), ("1024X768", (1024, 768)), ("big", (0, 0)), (None, (0, 0)), ("9x99999999999", (0, 0))],
)
def test_image_sizes(size: str | None, pixels: tuple[int, int]) -> None:
    """Text that is no size is no size."""
    assert image_dimensions(size) == pixels


def test_extra_fields_are_bounded() -> None:
    """An allowed field can't carry a prompt of any length into the store."""
    assert orjson.loads(bounded_json({"a": 1})) == {"a": 1}
    assert orjson.loads(bounded_json({"a": "x" * MAX_EXTRA, "b": 1})) == {"too_large": ["a", "b"]}
