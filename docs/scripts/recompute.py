"""Recompute the costs of stored rows from their receipts, without birdfeed: rows as NDJSON on standard input.

    curl "$TINYBIRD_HOST/v0/sql" -H "Authorization: Bearer $TINYBIRD_READ_TOKEN" --data-urlencode \
      "q=SELECT *, toString(cost) AS cost_text FROM llm_events FINAL FORMAT JSONEachRow" -G | python recompute.py

Prints the event ids of rows whose receipt doesn't give their cost; the exit code is 1 if there are any.
"""

import json
import sys
from fractions import Fraction

BY_THE_CALL = {"web_searches": 1_000, "search_queries": 1_000, "search_units": 1_000, "requests": 1_000}
PER = {**BY_THE_CALL, "citation_tokens": 10**6, "characters": 10**6, "pages": 1_000, "seconds": 3_600}


def quantity(name: str, row: dict) -> Fraction:  # type: ignore[type-arg]
    """How much of a rate's unit a row has. JSON numbers are read from their shortest text, which is what was priced."""
    if name == "reported":
        return Fraction(1)
    if name == "megapixel":
        return Fraction(int(row["num_images"]) * int(row["width"]) * int(row["height"]), 10**6)
    if name == "image":
        return Fraction(int(row["num_images"]))
    if name in ("video_second", "audio_second", "character", "page"):
        return Fraction(str(row.get(f"{name}s") or row["seconds"]))
    return Fraction(str(row[name])) / PER[name] if name in PER else Fraction(int(row[f"{name}_tokens"]), 10**6)


def cost(row: dict) -> Fraction:  # type: ignore[type-arg]
    """Rates times quantities.

    Multipliers apply to all rates but those paid by the call. Rounded to 12 places, half to even.
    """
    rates = {name: Fraction(text) for name, text in json.loads(row["price_rates"] or "{}").items()}
    factor, total = Fraction(1), Fraction(0)
    for name, rate in rates.items():
        factor *= rate if name.endswith("_multiplier") else 1
    for name, rate in rates.items():
        if not name.endswith("_multiplier"):
            total += quantity(name, row) * rate * (1 if name in BY_THE_CALL else factor)
    return Fraction(round(total * 10**12), 10**12)


if __name__ == "__main__":
    wrong = [row["event_id"] for row in map(json.loads, sys.stdin) if cost(row) != Fraction(row["cost_text"])]
    sys.exit("\n".join(wrong) or None)
