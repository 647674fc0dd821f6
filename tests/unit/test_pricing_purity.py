"""Usage, prices and tiers are decided without a network, a queue or a clock."""

import subprocess
import sys

import pytest

PURE = ("usage", "usage_shapes", "money", "price_entry", "price_book", "price_receipt", "pricing", "tiers")


@pytest.mark.parametrize("name", PURE)
def test_imports_no_network_and_no_queue(name: str) -> None:
    """A pure file brings in neither redis, rq nor httpx, nor the fallback's package."""
    code = (
        f"import sys, birdfeed_worker.{name}; "
        "print(sorted({'redis', 'rq', 'httpx', 'genai_prices'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
