"""The pytest fixture `birdfeed_events`; pytest finds it through birdfeed's entry point."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from birdfeed.testing import Captured


@pytest.fixture
def birdfeed_events() -> "Iterator[Captured]":
    """The events that the test tracks; nothing is sent. See birdfeed.testing."""
    from birdfeed.testing import capture

    with capture() as events:
        yield events
