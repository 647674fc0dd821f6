"""Rows: every field has a column and a path, and its value is the event's."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import msgspec
import orjson
import pytest
from birdfeed_sandbox.datafiles.datasource import Datasource, parse_datasource
from birdfeed_schemas.datafiles import former_columns, paths_of
from birdfeed_schemas.enrichment import Price, Tier, Tokens, Usage
from birdfeed_schemas.events import MAX_ERROR_MESSAGE
from birdfeed_schemas.registry import EventType, registry
from birdfeed_schemas.rows import (
    MAX_EXTRA,
    Enriched,
    bounded_json,
    image_dimensions,
    moderation_verdicts,
)
from birdfeed_schemas.tables.former import FORMER
from birdfeed_schemas.tables.meters import COUNTERS, TOKEN_CLASSES
from birdfeed_schemas.times import times
from birdfeed_schemas.wire.envelope import Envelope
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tests.support.existing import columns as existing_columns
from tests.support.rows import sent

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "019afc3e-5a3c-7d10-8000-000000000001"
TYPES = list(registry().values())


#: An event with a value in every field that a row has.
LOADED: dict[str, Any] = {
    **{name: f"a {name}" for name in ("model_used", "provider", "user", "username", "tier", "request_id", "referrer")},
    **{
        name: f"a {name}" for name in ("cache_key", "service_tier", "environment", "organization", "project", "quality")
    },
    **{name: f"a {name}" for name in ("chat_id", "response_id")},
    "model": "m",
    "start_time": "2026-11-23T11:59:58Z",
    "end_time": "2026-11-23T11:59:59Z",
    "duration": 1000.0,
    "status": "error",
    "error": {"type": "T", "code": "c", "message": "x" * 5000, "traceback": "secret"},
    "cache_hit": True,
    "stream": True,
    "moderation": {"hate": {"filtered": True}},
    "image_size": "1024x768",
    "num_images": 2,
    "has_input_image": True,
    "video_seconds": "1.5",
    "audio_seconds": 2,
    "trace_id": "a trace",
    "span_id": "a span",
    "sample_rate": 0.5,
    "characters": 5,
}


def row_of(event_type: EventType, data: dict[str, Any], **enriched: Any) -> dict[str, Any]:
    """The row of an event whose facts don't matter."""
    facts: dict[str, Any] = {
        "usage": Usage(status="ok", tokens=Tokens(prompt_text=3, completion_text=4, prompt_cached=5)),
        "price": Price(units=1, cost_status="priced", price_match="name", rates_json='{"a":"1"}'),
        "tier": Tier(tier="seed", source="event"),
        "enriched_at": NOON,
        "extra": {},
        **enriched,
    }
    envelope = Envelope(event_id=ID, event_type=event_type.name, occurred_at=NOON, data=data)
    return sent(Enriched(envelope=envelope, event=event_type.event.model_validate(data), **facts))


def values_of(row: Mapping[str, Any], prefix: str = "$") -> set[str]:
    """Every path of a row that leads to a value."""
    return {
        path
        for name, value in row.items()
        for path in (values_of(value, f"{prefix}.{name}") if isinstance(value, dict) else {f"{prefix}.{name}"})
    }


def datasource(name: str) -> Datasource:
    """A data source of the shipped Tinybird project."""
    file = files("birdfeed_schemas") / "data" / "datasources" / f"{name}.datasource"
    return parse_datasource(file.read_text(), name=name)


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_every_row_field_has_a_column_and_every_column_a_field(event_type: EventType) -> None:
    """Both ways: a column without a field would always be its default, a field without a column would be lost."""
    paths = {str(column.path) for column in datasource(event_type.datasource).columns}
    fields = set(paths_of(event_type.row))
    for_other_tables = {"$.cost"}  # the template's Float32 column; ours reads $.cost_exact
    for_other_tables |= {column.path for column in former_columns(event_type.datasource)}

    assert paths - fields == set()
    assert fields - paths <= for_other_tables


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_what_may_be_left_out_is_its_columns_default(event_type: EventType) -> None:
    """Otherwise a row would differ from the event: in our tables, and in the existing llm_events."""
    columns = {str(column.path): column.default for column in datasource(event_type.datasource).columns}
    existing = {column["json_path"]: column["default"] for column in existing_columns()}
    left_out = {
        path: field.default
        for path, field in paths_of(event_type.row).items()
        if not field.required and field.default is not UNSET
    }
    before = {one.path: one.default for one in FORMER.get(event_type.datasource, ())}
    for path, default in left_out.items():
        for said in [table[path] for table in (columns, before, existing) if path in table]:
            assert said is not None, f"{path} may be left out, and its column has no default"
            plain = f"'{default}'" if isinstance(default, str) else "false" if default is False else f"{default:g}"
            assert said == plain, path


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
@pytest.mark.parametrize("data", [{"model": "m"}, LOADED], ids=["bare", "loaded"])
def test_a_built_row_is_the_model(event_type: EventType, data: dict[str, Any]) -> None:
    """Rows are filled by position; each field has its own value, of its own type."""
    row = row_of(event_type, data, keep_traceback=True)

    msgspec.json.decode(orjson.dumps(row), type=event_type.row)  # or raises
    of_facts = {"provider", "tier"}
    texts = {name: value for name, value in data.items() if str(value).startswith("a ") and name not in of_facts}
    assert {name: value for name, value in texts.items() if row.get(name, value) != value} == {}
    assert row.items() >= {"cost_exact": "0.000000000001", "model": "m"}.items()


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_a_row_has_all_that_the_event_had(event_type: EventType) -> None:
    """No value is left out that is not a default."""
    row = row_of(
        event_type,
        {**LOADED, "start_time": 0},
        extra={"colour": "red"},
        dropped_fields=2,
        replay_id="r",
        keep_traceback=True,
        usage=Usage(
            status="ok",
            tokens=Tokens(*range(1, len(TOKEN_CLASSES) + 1)),
            counters=dict.fromkeys(COUNTERS, 2),
        ),
        usage_raw='{"prompt_tokens":1}',
        price=Price(
            units=10**12,
            cost_status="priced",
            price_match="name",
            price_model="m",
            price_book="b",
            price_source="book",
            provider="p",
            rates_json="{}",
        ),
    )

    assert set(paths_of(event_type.row)) - values_of(row) == {"$.usage_raw_dropped"}  # it is kept
    assert len(row["exception"]) == MAX_ERROR_MESSAGE


@pytest.mark.parametrize("event_type", TYPES, ids=lambda one: one.name)
def test_a_row_has_its_sample_rate_only_with_sampling(event_type: EventType) -> None:
    """Rows of types without sampling are unchanged by it."""
    plain = row_of(event_type, {"model": "m"})

    assert "sample_rate" not in plain
    assert all(row_of(event_type, {"model": "m", "sample_rate": rate}) == plain for rate in (None, 1, 1.0))
    assert row_of(event_type, {"model": "m", "sampleRate": 0.1}) == {**plain, "sample_rate": 0.1}


def test_tracebacks_are_kept_only_if_configured() -> None:
    """They can contain parts of prompts."""
    kind = registry()["text_generation"]

    assert "traceback" not in row_of(kind, LOADED)
    assert row_of(kind, LOADED, keep_traceback=True)["traceback"] == "secret"


def test_the_columns_without_a_default_are_always_there() -> None:
    """The existing llm_events has no default for these four: without them every row would be quarantined."""
    row = row_of(registry()["text_generation"], {"model": "m"})

    assert (row["start_time"], row["end_time"]) == ("2026-11-23T12:00:00Z",) * 2
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
def test_times_are_computed_from_what_is_known(
    start: datetime | None, end: datetime | None, duration: float | None, expected: tuple[Any, ...]
) -> None:
    """A missing time is computed from the others; an impossible one is replaced and flagged."""
    assert times(NOON, start, end, duration) == expected


moments = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(moments, moments, st.none() | st.floats(min_value=0, max_value=1e12))
def test_no_times_give_an_impossible_row(start: datetime | None, end: datetime | None, duration: float | None) -> None:
    """Start and end are near occurred_at, in order, for any input."""
    first, last, length, _ = times(NOON, start, end, duration)

    assert NOON - timedelta(days=14) <= first <= last <= NOON + timedelta(days=8)
    assert 0 <= length <= 8 * 86_400_000


def test_moderation_keeps_verdicts_and_no_text() -> None:
    """Severities and booleans are kept; the matched text is part of a prompt."""
    said = {"prompt": {"hate": {"filtered": True, "severity": "high"}, "quote": "what the user wrote, word by word"}}

    assert moderation_verdicts(said) == ({"prompt": {"hate": {"filtered": True, "severity": "high"}}}, True)
    assert moderation_verdicts({"hate": {"filtered": False}}) == ({"hate": {"filtered": False}}, False)
    assert moderation_verdicts(None) == ({}, False)


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("1024x768", (1024, 768)),
        ("1024X768", (1024, 768)),
        ("big", (0, 0)),
        (None, (0, 0)),
        ("9x99999999999", (0, 0)),
        ("9" * 5_000 + "x1", (0, 0)),
    ],
)
def test_image_sizes(size: str | None, pixels: tuple[int, int]) -> None:
    """Text that isn't a size gives no size."""
    assert image_dimensions(size) == pixels


def test_extra_fields_are_bounded() -> None:
    """An allowed field can't bring a prompt of any length into the store."""
    assert orjson.loads(bounded_json({"a": 1})) == {"a": 1}
    assert orjson.loads(bounded_json({"a": "x" * MAX_EXTRA, "b": 1})) == {"too_large": ["a", "b"]}
