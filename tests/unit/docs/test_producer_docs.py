"""docs/how-to/handler.md documents everything a handler can use."""

import birdfeed
import pytest
from birdfeed.stats import REASONS
from birdfeed_schemas.fields import COMMON, IMAGE_GENERATION, TEXT_GENERATION

from tests.support.repository import ROOT

HANDLER = (ROOT / "docs" / "how-to" / "handler.md").read_text()


@pytest.mark.parametrize("name", sorted({*COMMON, *TEXT_GENERATION, *IMAGE_GENERATION}))
def test_every_field_is_documented(name: str) -> None:
    """By its own name."""
    assert f"`{name}`" in HANDLER


@pytest.mark.parametrize("name", [name for name in birdfeed.__all__ if name[0].islower()])
def test_every_function_is_documented(name: str) -> None:
    """In an example or in the text."""
    assert name in HANDLER


def test_reasons_are_those_in_the_code() -> None:
    """Each documented reason for a drop is in the code, and each one in the code is documented."""
    code = "".join(
        path.read_text() for path in (ROOT / "producer" / "birdfeed").glob("*.py") if path.name != "counters.py"
    )

    assert [reason for reason in REASONS if f'"{reason}"' not in code] == []
