"""What `birdfeed up` starts, where a setting stands in its way."""

from pathlib import Path

import pytest
from birdfeed_cli.local.services import Stack, StackError


@pytest.mark.parametrize("url", ["redis://:hush-hush@127.0.0.1:1/0", "rediss://:hush-hush@127.0.0.1:1"])
def test_a_redis_of_the_settings_that_is_gone(tmp_path: Path, url: str) -> None:
    """As after a restart in a shell that has the exports of servers that ended; nothing is left running."""
    with pytest.raises(StackError, match=r"doesn't answer.*unset BIRDFEED_REDIS_URL") as told, Stack(tmp_path, url):
        pytest.fail("it started")

    assert "hush" not in str(told.value)


def test_a_redis_url_that_is_none(tmp_path: Path) -> None:
    """Said in a sentence."""
    with pytest.raises(StackError), Stack(tmp_path, "http://127.0.0.1"):
        pytest.fail("it started")
