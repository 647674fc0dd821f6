"""The visible cost cases, as the command line prices them."""

from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.pricing.price.record import price_line

from tests.support.pricing.cases import NOW, SHIPPED, read_json

CASES: list[dict[str, Any]] = read_json("cost_cases.json")["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_visible_case(case: dict[str, Any]) -> None:
    """Every field a case expects comes out as expected; cost as a number."""
    got = price_line(case, SHIPPED, NOW)
    got["cost"] = Decimal(got["cost"])
    expected = {**case["expected"], "cost": Decimal(case["expected"]["cost"])}

    assert expected == {name: got[name] for name in expected}
