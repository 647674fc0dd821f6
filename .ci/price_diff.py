"""Prices of genai-prices, as birdfeed uses them, beside litellm's bundled map: `make price-diff`.

One line for each provider and rate: how many models agree, and the models that don't, with both rates in USD per
1,000,000 tokens. docs/reference/price-diff.md lists the known differences and their reasons.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from birdfeed_schemas.tables.providers import family_of
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.names import candidates
from birdfeed_worker.pricing.price.money import plain

#: The map's keys (USD per token) → our meters.
RATES: Final = {
    "input_cost_per_token": "prompt_text",
    "output_cost_per_token": "completion_text",
    "cache_read_input_token_cost": "prompt_cached",
    "cache_creation_input_token_cost": "prompt_cache_write",
    "cache_creation_input_token_cost_above_1hr": "prompt_cache_write_1h",
    "input_cost_per_audio_token": "prompt_audio",
    "output_cost_per_audio_token": "completion_audio",
}
WELL_KNOWN: Final = ("openai", "anthropic", "google", "vertex", "aws", "xai", "mistral", "deepseek", "groq", "cohere")


def litellm_map() -> dict[str, dict[str, Any]]:
    """The bundled map, without importing litellm, which would ask the network for a newer one."""
    package = find_spec("litellm")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "model_prices_and_context_window_backup.json"
    prices: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return prices


def main() -> None:
    """Print the comparison."""
    prices, now = GenaiPrices(), datetime.now(UTC)
    same: dict[tuple[str, str], int] = defaultdict(int)
    other: dict[tuple[str, str], list[str]] = defaultdict(list)
    unknown: dict[str, int] = defaultdict(int)
    for key, said in litellm_map().items():
        family = family_of(str(said.get("litellm_provider") or ""))
        if family not in WELL_KNOWN or said.get("mode") not in ("chat", "responses"):
            continue
        found = None
        for one in candidates(key, family):
            found = found or prices.find(one.name, now, family, {}, 1)
        if found is None or found.entry.estimated:
            unknown[family] += 1
            continue
        for name, meter in RATES.items():
            theirs, ours = said.get(name), found.entry.rates.get(meter)
            if not isinstance(theirs, int | float) or ours is None:
                continue
            rate = (Decimal(repr(theirs)) * 1_000_000).quantize(Decimal("1e-6"))
            if abs(rate - ours) <= Decimal("0.000001"):
                same[family, meter] += 1
            else:
                other[family, meter].append(f"{key}: here {plain(ours)}, litellm {plain(rate)}")
    for place in sorted(same.keys() | other.keys()):
        print(f"{' '.join(place)}: {same[place]} agree, {len(other[place])} differ")
        for line in sorted(other[place]):
            print(f"    {line}")
    print("not known to genai-prices: " + ", ".join(f"{family} {count}" for family, count in sorted(unknown.items())))


if __name__ == "__main__":
    main()
