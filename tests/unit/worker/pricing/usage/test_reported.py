"""Usages as SDKs, gateways and frameworks report them: each gives the cost that was computed by hand."""

from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.pricing.price.record import price_record

from tests.support.pricing.cases import DEFAULT, NOW, counted, read_json

CASES: list[dict[str, Any]] = read_json("reported_usages.json")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_reported(case: dict[str, Any]) -> None:
    """Cost and status, with the default books."""
    price = price_record(case, DEFAULT, NOW).price

    assert (price.cost, price.cost_status) == (Decimal(case["cost"]), case["cost_status"])


def test_the_usage_of_compaction_is_counted() -> None:
    """Anthropic's totals don't include it, nor its cache writes by lifetime."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_creation_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
        "iterations": [
            {"type": "message", "input_tokens": 10, "output_tokens": 20},
            {
                "type": "compaction",
                "input_tokens": 1000,
                "output_tokens": 200,
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 50},
            },
        ],
    }

    assert counted(usage) == (
        "ok",
        {"prompt_text": 1010, "prompt_cache_write": 100, "prompt_cache_write_1h": 50, "completion_text": 220},
    )


def test_the_usage_of_another_model_is_not_priced_as_this_one() -> None:
    """An advisor's tokens are billed at its own rates: the row's status shows that something is missing."""
    advisor = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 900, "output_tokens": 90}
    usage = {"input_tokens": 10, "output_tokens": 20, "iterations": [advisor]}

    assert counted(usage) == ("incomplete", {"prompt_text": 10, "completion_text": 20})
