"""`birdfeed up` with settings that don't fit."""

from pathlib import Path

import pytest
from birdfeed_cli.local.services import Stack, StackError


@pytest.mark.parametrize("url", ["redis://:hush-hush@127.0.0.1:1/0", "rediss://:hush-hush@127.0.0.1:1"])
def test_a_configured_redis_that_does_not_run(tmp_path: Path, url: str) -> None:
    """As after a restart in a shell with the exports of stopped servers; nothing is left running."""
    with pytest.raises(StackError, match=r"doesn't answer.*unset BIRDFEED_REDIS_URL") as told, Stack(tmp_path, url):
        pytest.fail("it started")

    assert "hush" not in str(told.value)


def test_an_invalid_redis_url(tmp_path: Path) -> None:
    """Reported in one sentence."""
    with pytest.raises(StackError), Stack(tmp_path, "http://127.0.0.1"):
        pytest.fail("it started")
