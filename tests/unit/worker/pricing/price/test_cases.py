"""The visible cases of cost and usage, as the command line prices them, with the default settings."""

from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.record import price_line

from tests.support.pricing.cases import DEFAULT, NOW, SHIPPED, read_json

CASES: list[dict[str, Any]] = read_json("cost_cases.json")["cases"]
USAGES: list[dict[str, Any]] = read_json("usage_cases.json")["cases"]


@pytest.mark.parametrize("books", [SHIPPED, DEFAULT], ids=["without fallback", "default"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_visible_case(case: dict[str, Any], books: Books) -> None:
    """Every field a case expects has the expected value; cost as a number."""
    got = price_line(case, books, NOW)
    got["cost"] = Decimal(got["cost"])
    expected = {**case["expected"], "cost": Decimal(case["expected"]["cost"])}

    assert expected == {name: got[name] for name in expected}


@pytest.mark.parametrize("case", USAGES, ids=[case["name"] for case in USAGES])
def test_reported_usages(case: dict[str, Any]) -> None:
    """The cost to the last digit, and one of the case's statuses."""
    got = price_line(case, DEFAULT, NOW)
    cost = case["expected"]["cost"]

    assert got["cost_status"] in case["expected"]["cost_status"]
    assert cost is None or Decimal(got["cost"]) == Decimal(cost)
