"""What enrichment costs: usage, price with its receipt, and tier, in µs per event.

    python bench/enrich.py [--events 500] [--rounds 200]

It uses batches of events as they come from validation, a warm book and a warm tier cache. It prints the median round
and the fastest one, which is more reliable if the machine does other work.
"""

import argparse
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

from birdfeed_schemas.events import Event
from birdfeed_schemas.registry import registry
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.normalise import normalise_usage
from birdfeed_worker.tiers.choose import choose_tier
from birdfeed_worker.tiers.lookup import CachedTiers

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
#: Usage as the common SDKs report it.
SHAPES: tuple[dict[str, Any], ...] = (
    {
        "model": "openai",
        "model_used": "gpt-4.1-nano-2025-04-14",
        "usage": {
            "prompt_tokens": 1200,
            "completion_tokens": 300,
            "total_tokens": 1500,
            "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    },
    {
        "model": "mistral",
        "usage": {"prompt_tokens": 900, "completion_tokens": 70, "total_tokens": 970},
    },
    {
        "model": "openai-large",
        "model_used": "gpt-4.1-2025-04-14",
        "usage": {
            "input_tokens": 1000,
            "output_tokens": 300,
            "total_tokens": 1300,
            "input_tokens_details": {"cached_tokens": 256},
            "output_tokens_details": {"reasoning_tokens": 120},
        },
    },
    {
        "model": "claude",
        "usage": {
            "input_tokens": 600,
            "output_tokens": 100,
            "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 0,
        },
    },
)


class EveryoneIsSeed:
    def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
        return ((user, "seed") for user in users)


def events(number: int) -> list[Event]:
    model = registry()["text_generation"].event
    return [model.model_validate({**SHAPES[i % len(SHAPES)], "user": f"user-{i % 200}"}) for i in range(number)]


def measure(work: Callable[[], object], rounds: int, number: int) -> tuple[float, float]:
    """Median and fastest round, in µs per event."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / number * 1e6)
    return median(times), min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=500, help="events in a batch")
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    batch = events(args.events)
    source = BookSource()
    tiers = CachedTiers(EveryoneIsSeed(), ttl=1e9)

    def enrich() -> None:
        books = source.current()
        answers = tiers.look_up({event.user for event in batch if event.user})
        for event in batch:
            usage = normalise_usage(event.usage)
            price_event("text_generation", event, usage, NOW, books)
            choose_tier(event.tier, event.user, answers.get(event.user) if event.user else None)

    books = source.current()
    usages = [normalise_usage(event.usage) for event in batch]
    stages: dict[str, Callable[[], object]] = {
        "usage": lambda: [normalise_usage(event.usage) for event in batch],
        "price": lambda: [
            price_event("text_generation", event, usage, NOW, books) for event, usage in zip(batch, usages, strict=True)
        ],
        "tier lookup": lambda: tiers.look_up({event.user for event in batch if event.user}),
        "tier": lambda: [choose_tier(None, event.user, "seed") for event in batch],
        "together": enrich,
    }
    enrich()
    print(f"{args.events} events a batch, {args.rounds} rounds; µs an event: median, fastest")
    for name, work in stages.items():
        middle, fastest = measure(work, args.rounds, args.events)
        print(f"{name:>12} {middle:6.2f} {fastest:6.2f}")
    tiers.close()


if __name__ == "__main__":
    main()
