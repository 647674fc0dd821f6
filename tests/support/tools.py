"""Programs of Debian's that some tests need."""

import shutil

import pytest

from tests.support.servers.redis_servers import MUST_HAVE_ALL


def need(program: str, package: str) -> str:
    """The path of a program; where it is missing the test is skipped with its package's name, or fails in the gate."""
    found = shutil.which(program)
    if found is None:
        if MUST_HAVE_ALL:
            pytest.fail(f"{program} is missing: apt-get install {package}")
        pytest.skip(f"{program} (Debian's {package}) is not installed here")
    return found
