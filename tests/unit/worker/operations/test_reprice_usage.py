"""Rows whose usage an older birdfeed read wrongly are corrected from the usage that they keep."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.tables.meters import METERS, TOTALS
from birdfeed_schemas.wire.envelope import Envelope
from birdfeed_worker.operations.reprice.judge import Correction, Unchanged, reprice
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.price.receipt import recompute
from birdfeed_worker.pricing.usage.normalise import TABLE, usage_of
from birdfeed_worker.pricing.usage.plan import Table
from birdfeed_worker.pricing.usage.raw import MAX_RAW, raw_usage
from birdfeed_worker.tiers.choose import ANONYMOUS

from tests.support.pricing.cases import DEFAULT
from tests.support.rows import filled, sent

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "input_token_details.cache_read": (
        "prompt.cache_read",
        {
            "model": "gpt-5",
            "provider": "openai",
            "usage": {"input_tokens": 9_000, "output_tokens": 5, "input_token_details": {"cache_read": 8_000}},
        },
    ),
    "web searches": (
        "tools.web_search_requests",
        {
            "model": "claude-opus-4-8",
            "usage": {"input_tokens": 1_000, "output_tokens": 5, "server_tool_use": {"web_search_requests": 3}},
        },
    ),
    "writes for an hour": (
        "+cache_write.ephemeral_1h_input_tokens",
        {
            "model": "claude-sonnet-4-5",
            "usage": {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_creation_input_tokens": 900,
                "cache_creation": {"ephemeral_1h_input_tokens": 900, "ephemeral_5m_input_tokens": 0},
            },
        },
    ),
    "the prompt itself": (
        "prompt_eval_count",
        {"model": "gpt-4o", "provider": "openai", "usage": {"prompt_eval_count": 10, "eval_count": 3}},
    ),
}


def without(spelling: str) -> Table:
    """The meter table with one spelling deleted."""
    meters = tuple(one._replace(spellings=tuple(word for word in one.spellings if word != spelling)) for one in METERS)
    totals = {name: tuple(word for word in words if word != spelling) for name, words in TOTALS.items()}
    return Table(meters, totals)


def row_of(data: dict[str, Any], table: Table) -> dict[str, Any]:
    """The row as a worker with this table writes it, and as it is read from the store."""
    event = registry()["text_generation"].event.model_validate({**data, "start_time": NOON})
    usage = usage_of(event, table)
    price = price_event("text_generation", event, usage, NOON, DEFAULT)
    kept = raw_usage(event.usage, table)
    row = sent(
        Enriched(
            envelope=Envelope(event_id="e", event_type="text_generation", occurred_at=NOON, data=data),
            event=event,
            usage=price.usage or usage,
            price=price,
            tier=ANONYMOUS,
            enriched_at=NOON,
            extra={},
            usage_raw=kept.text,
            usage_raw_dropped=kept.dropped,
        )
    )
    return filled(row)


@pytest.mark.parametrize("name", CASES)
def test_a_spelling_deleted_from_the_table_is_corrected(name: str) -> None:
    """The correction is the row that the whole table would have written."""
    spelling, data = CASES[name]
    wrong, right = row_of(data, without(spelling)), row_of(data, TABLE)
    outcome = reprice(wrong, DEFAULT, NOON + timedelta(days=1))

    assert isinstance(outcome, Correction)
    assert outcome.new == Decimal(right["cost_exact"]) != outcome.old
    for part in ("cost_exact", "cost_status", "usage_status", "tokens", "counters", "response", "price_rates"):
        assert outcome.row[part] == right[part], part
    assert recompute(outcome.row) == outcome.new


def test_a_correct_row_stays() -> None:
    """Reading it again gives the same."""
    assert reprice(row_of(CASES["web searches"][1], TABLE), DEFAULT, NOON) == Unchanged("same_book")


@pytest.mark.parametrize(
    ("usage", "text", "dropped"),
    [
        (None, "", False),
        ({}, "", False),
        ({"prompt_tokens": 0, "total_tokens": None}, '{"prompt_tokens":0}', False),
        ({"prompt_tokens": "12", "note": "a secret"}, '{"prompt_tokens":"12"}', False),
        ({"a": 1, "service_tier": "flex", "type": "has spaces in it"}, '{"a":1,"service_tier":"flex"}', False),
        ({"d": [{"modality": "TEXT", "tokenCount": 3}]}, '{"d":[{"modality":"TEXT","tokenCount":3}]}', False),
        ({"id": "x", "choices": ["secret"], "usage": {"prompt_tokens": 3}}, '{"prompt_tokens":3}', False),
        ({"my secret key": 5}, "", True),
        ({f"k{number}": number for number in range(300)}, "", True),
        ({"note": "only text"}, "", True),
        ("text", "", True),
        ({"n": 2**70}, "", True),
        ({"cost": 0.25, "is_byok": True}, '{"cost":0.25,"is_byok":true}', False),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_what_is_kept_of_a_usage(usage: Any, text: str, dropped: bool) -> None:
    """Numbers and a few words, zeros too; all of it within a bound, or nothing and a flag."""
    kept = raw_usage(usage)

    assert (text, dropped) == kept
    assert len(kept.text.encode()) <= MAX_RAW
    assert not kept.text or orjson.loads(kept.text)
