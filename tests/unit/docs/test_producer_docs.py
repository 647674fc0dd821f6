"""docs/how-to/handler.md tells everything a handler can use."""

import birdfeed
import pytest
from birdfeed.stats import REASONS
from birdfeed_schemas.fields import COMMON, IMAGE_GENERATION, TEXT_GENERATION

from tests.support.repository import ROOT

HANDLER = (ROOT / "docs" / "how-to" / "handler.md").read_text()


@pytest.mark.parametrize("name", sorted({*COMMON, *TEXT_GENERATION, *IMAGE_GENERATION}))
def test_every_field_is_told(name: str) -> None:
    """By its own name."""
    assert f"`{name}`" in HANDLER


@pytest.mark.parametrize("name", [name for name in birdfeed.__all__ if name[0].islower()])
def test_every_function_is_told(name: str) -> None:
    """In an example, or in words."""
    assert name in HANDLER


def test_reasons_are_those_that_are_used() -> None:
    """Each reason for a drop stands in the code, and each in the code is explained."""
    code = "".join(
        path.read_text() for path in (ROOT / "producer" / "birdfeed").glob("*.py") if path.name != "counters.py"
    )

    assert [reason for reason in REASONS if f'"{reason}"' not in code] == []
