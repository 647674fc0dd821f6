"""Events for the demo: real usage shapes with varied numbers; some invalid, some for models without a price."""

import random
from collections.abc import Iterator
from copy import deepcopy
from importlib.resources import files
from typing import Any, Final

import orjson

#: Every how many events one is invalid, and one is for a model without a price.
BAD_EVERY: Final = 97
UNKNOWN_MODEL_EVERY: Final = 41
TIERS: Final = ("anonymous", "microbe", "spore", "seed", "flower", "nectar", "router")

#: What is wrong with the invalid ones, in turn.
FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"model": 4.1},
    {"status": "done"},
    {"model": None, "start_time": "yesterday"},
    {"duration": -1},
)


def demo_events(count: int, seed: int = 7) -> Iterator[tuple[str, dict[str, Any]]]:
    """`count` events as handlers send them; each has its own request_id: demo-000000 and so on."""
    draw = random.Random(seed)
    shapes = [
        shape
        for shape in orjson.loads((files("birdfeed_cli") / "data" / "usage_shapes.json").read_bytes())
        # One shape is a test of overflowing counters; its cost of 8,590 USD would dwarf the others.
        if shape["event_data"].get("usage") is None or shape["event_data"]["usage"].get("total_tokens", 0) < 10**9
    ]
    for number in range(count):
        shape = draw.choice(shapes)
        data = vary(shape["event_data"], draw)
        data |= {
            "request_id": f"demo-{number:06}",
            "user": f"user-{draw.randrange(200)}",
            "tier": draw.choice(TIERS),
            "duration": round(draw.lognormvariate(6.5, 0.8), 1),
            "environment": "demo",
            "stream": draw.random() < 0.5,
            # Handlers pass all they have; birdfeed drops what it must not store.
            "messages": [{"role": "user", "content": "never stored"}],
        }
        if number % UNKNOWN_MODEL_EVERY == 5:
            data |= {"model": "brand-new-model", "model_used": "brand-new-model-preview"}
        if number % BAD_EVERY == 50:
            data |= FAULTS[number // BAD_EVERY % len(FAULTS)]
        yield shape["event_type"], data


def vary(shape: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """The same shape with other numbers: all counts are multiplied by one factor, so that parts fit their totals."""
    data = deepcopy(shape)
    factor = draw.randint(1, 9)

    def scale(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: scale(part) for key, part in value.items()}
        if type(value) is int and 0 < value < 10**8:
            return value * factor
        return value

    if "usage" in data:
        data["usage"] = scale(data["usage"])
    return data
