"""Builds usage objects with the SDKs of this environment and prints them as JSON, as birdfeed's producer sends them.

    PYTHONPATH=.:producer:schemas python -m tests.support.pricing.record openai anthropic

Prints the version of each SDK, and each usage object as `track_event` sends it; of pydantic models also their own
dumps.
"""

import json
import logging
import sys
from importlib.metadata import version
from typing import Any

from birdfeed import track_event
from birdfeed.testing import capture

from tests.support.pricing.frameworks import FRAMEWORKS
from tests.support.pricing.sdks import OBJECTS, dumps


def tracked(usage: Any) -> Any:
    """A usage object as an event carries it."""
    with capture() as events:
        track_event("text_generation", {"model": "m", "usage": usage})
    return events.only.data["usage"]


def record(distributions: list[str]) -> dict[str, Any]:
    """The objects of these distributions as JSON, each form once."""
    found: dict[str, list[Any]] = {}
    for name, (distribution, make, _) in OBJECTS.items():
        if distribution in distributions:
            found[name] = [tracked(make()), *dumps(make())]
    for name, expected in FRAMEWORKS.items():
        if expected.distribution in distributions:
            found[name] = [tracked(expected.make())]
    return {
        "versions": {distribution: version(distribution) for distribution in distributions},
        "usages": {name: _once(forms) for name, forms in found.items()},
    }


def _once(forms: list[Any]) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(form, sort_keys=True) for form in forms)]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    json.dump(record(sys.argv[1:]), sys.stdout)
