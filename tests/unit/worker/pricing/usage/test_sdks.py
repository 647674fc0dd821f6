"""Usage as the real SDKs' own objects dump it: built here where the SDK is installed, recorded for where it isn't."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from tests.support.pricing.cases import counted, read_json
from tests.support.pricing.sdks import OBJECTS, dumps

RECORDED: dict[str, list[Any]] = read_json("sdk_usage.json")


@pytest.mark.parametrize("name", OBJECTS)
def test_recorded(name: str) -> None:
    """Every dump recorded from an SDK's object comes to the classes its provider bills."""
    expected = OBJECTS[name][2]

    for raw in RECORDED[name]:
        assert ("ok", expected) == counted(raw)


@pytest.mark.parametrize("name", OBJECTS)
def test_built(name: str) -> None:
    """So does the object of the SDK as it is installed."""
    distribution, make, expected = OBJECTS[name]
    try:
        version(distribution)
    except PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed; its recorded dumps are tested")

    for raw in dumps(make()):
        assert ("ok", expected) == counted(raw)
