"""Short rows, for birdfeed's present llm_events: no value is in them twice."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from birdfeed_schemas.datafiles import columns_of, former_columns, paths_of
from birdfeed_schemas.enrichment import Price, Tier, Tokens, Usage
from birdfeed_schemas.registry import registry
from birdfeed_schemas.row_models import LlmEventRow
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.tables.former import DEFAULTS, FORMER, is_short
from birdfeed_schemas.wire.envelope import Envelope

from tests.support.existing import shipped

NOON = datetime(2026, 11, 23, 12, 0, 2, tzinfo=UTC)
#: An ordinary event of a chat service; bench/delivery_parts.py has the same.
ORDINARY: dict[str, Any] = {
    "model": "openai",
    "model_used": "gpt-4.1-nano-2025-04-14",
    "provider": "azure-openai",
    "user": "user-234",
    "username": "name-234",
    "tier": "seed",
    "start_time": "2026-11-23T12:00:00.123Z",
    "end_time": "2026-11-23T12:00:01.623Z",
    "duration": 1500.0,
    "status": "success",
    "request_id": "req-1234",
    "environment": "production",
    "referrer": "example.com",
    "stream": True,
    "response_id": "chatcmpl-1234",
}
USAGE_RAW = (
    '{"prompt_tokens":1034,"completion_tokens":500,"total_tokens":1534,"prompt_tokens_details":{"cached_tokens":128,'
    '"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":64,"audio_tokens":0}}'
)


def enriched(data: dict[str, Any], **facts: Any) -> Enriched:
    given: dict[str, Any] = {
        "usage": Usage("ok", Tokens(prompt_text=906, prompt_cached=128, completion_text=436, completion_reasoning=64)),
        "price": Price(
            units=294_440_000,
            cost_status="priced",
            price_match="original_name",
            price_model="openai",
            price_book="76acc5184d40",
            price_source="book",
            provider="azure-openai",
            rates_json='{"prompt_text":"0.1","prompt_cached":"0.03","completion_text":"0.4","completion_reasoning":"0.4"}',
        ),
        "tier": Tier(tier="seed", source="event"),
        "enriched_at": NOON.replace(microsecond=123456),
        "extra": {},
        **facts,
    }
    event_id = "01a223b3-df5c-7725-b255-b195ea6fcdf5"
    envelope = Envelope(event_id=event_id, event_type="text_generation", occurred_at=NOON, data=data)
    return Enriched(envelope=envelope, event=registry()["text_generation"].event.model_validate(data), **given)


def row_of(data: dict[str, Any], *, short: bool, **facts: Any) -> bytes:
    return msgspec.json.encode(registry()["text_generation"].build_row(enriched(data, short=short, **facts)))


def by_path(value: Any, prefix: str = "$") -> dict[str, Any]:
    """Every value of a row by its path."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {path: one for name, part in value.items() for path, one in by_path(part, f"{prefix}.{name}").items()}


def test_an_ordinary_row_is_small() -> None:
    """Tinybird accepts 20 MB/s: 17,000 rows of 1,150 bytes."""
    traced = {**ORDINARY, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}

    assert len(row_of(ORDINARY, short=True)) <= 900
    assert len(row_of(traced, short=True, usage_raw=USAGE_RAW)) <= 1_150
    assert len(row_of(ORDINARY, short=False, usage_raw=USAGE_RAW)) > 1_500  # the saving


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (ORDINARY, {}),
        ({"model": "m"}, {}),
        ({"model": "m", "error": "it broke"}, {}),
        ({"model": "m"}, {"usage": Usage("missing"), "price": Price(0, "no_usage", "none")}),
        ({"model": "m", "stream": True, "response_id": "r", "chat_id": "c"}, {"usage": Usage("inconsistent")}),
    ],
)
def test_a_short_row_equals_a_whole_one(data: dict[str, Any], facts: dict[str, Any]) -> None:
    """In every column of the present table: a missing value is the column's default."""
    short = by_path(msgspec.json.decode(row_of(data, short=True, **facts)))
    whole = by_path(msgspec.json.decode(row_of(data, short=False, **facts)))
    defaults = {f"$.{name}": default for name, default in DEFAULTS.items()}
    former = {column.path for column in former_columns("llm_events")}
    paths = {column.path for column in columns_of("llm_events")}

    assert set(short) <= paths
    assert set(whole) - paths <= {*former, "$.cost"}
    for path in paths:
        assert short.get(path, defaults.get(path, "")) == whole.get(path, ""), path
    assert not short.items() & defaults.items()  # left out where it is the default


def test_the_defaults_are_the_columns() -> None:
    """Otherwise rows would differ; also for fields that other rows always have."""
    required = {path for path, field in paths_of(LlmEventRow).items() if field.required}
    for name, default in DEFAULTS.items():
        assert f"`json:$.{name}` DEFAULT '{default}'" in shipped()
        assert f"$.{name}" in required


def test_the_kind_of_rows_follows_from_the_columns() -> None:
    """One former column is enough for whole rows; another table, or one of another type, gets them too."""
    ours = {column.name for column in columns_of("llm_events")}

    assert is_short("llm_events", ours)
    assert is_short("llm_events", ours | {"one of theirs"})
    assert not any(is_short("llm_events", ours | {one.name}) for one in FORMER["llm_events"])
    assert not is_short("llm_events", ours - {"event_id"})
    assert not is_short("image_events", {column.name for column in columns_of("image_events")})
