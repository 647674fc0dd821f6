"""What the tests of the SDKs' integrations share."""

from collections.abc import Iterator

import pytest
from birdfeed.testing import Captured, capture

from tests.support.producer.answers import SECRET


@pytest.fixture
def events() -> Iterator[Captured]:
    """The tracked events; checks that no prompt or answer is in them."""
    with capture() as captured:
        yield captured
        assert SECRET not in repr(captured)
