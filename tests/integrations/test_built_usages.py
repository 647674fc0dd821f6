"""Usage objects of the real SDKs, as birdfeed's producer sends them: recorded from each package (`make recordings`),
and built here where the SDK is installed.
"""

from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from tests.support.pricing.cases import DEFAULT, counted, nonzero, read_json, text
from tests.support.pricing.frameworks import FRAMEWORKS
from tests.support.pricing.sdks import OBJECTS, dumps

RECORDING: dict[str, Any] = read_json("sdk_usage.json")
RECORDED: dict[str, list[Any]] = RECORDING["usages"]


@pytest.mark.parametrize("name", OBJECTS)
def test_recorded(name: str) -> None:
    """Every recorded dump of an SDK's object gives the classes that its provider bills."""
    expected = OBJECTS[name][2]

    for raw in RECORDED[name]:
        assert ("ok", expected) == counted(raw)


@pytest.mark.parametrize("name", OBJECTS)
def test_built(name: str) -> None:
    """So does the object of the installed SDK."""
    distribution, make, expected = OBJECTS[name]
    try:
        version(distribution)
    except PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed; its recorded dumps are tested")

    for raw in dumps(make()):
        assert ("ok", expected) == counted(raw)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_recorded(name: str) -> None:
    """Tokens by class, and the cost, computed by hand from the provider's rates."""
    expected = FRAMEWORKS[name]
    for raw in RECORDED[name]:
        _, usage, price = text(DEFAULT, model=expected.model, provider=expected.provider, usage=raw)

        assert (usage.status, nonzero(usage)) == (expected.usage, expected.tokens)
        assert (price.cost_status, price.cost) == (expected.status, Decimal(expected.cost))


def test_the_recording_is_complete() -> None:
    """It has every object, and the version of each package."""
    assert RECORDED.keys() == {*OBJECTS, *FRAMEWORKS}
    packages = {made[0] for made in OBJECTS.values()} | {made.distribution for made in FRAMEWORKS.values()}
    assert RECORDING["versions"].keys() == packages
