"""Tools outside our own environment that some tests need: Debian's programs, and packages that conflict with ours."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

import pytest

from tests.support.servers.redis_servers import MUST_HAVE_ALL

#: Seconds.
_INSTALL_WITHIN: Final = 600


class NotInstallableError(Exception):
    """Packages can't be installed here; the text says why."""


def need(program: str, package: str) -> str:
    """The path of a program.

    If it is missing the test is skipped with the name of its package, or fails in the gate.
    """
    found = shutil.which(program)
    if found is None:
        if MUST_HAVE_ALL:
            pytest.fail(f"{program} is missing: apt-get install {package}")
        pytest.skip(f"{program} (Debian's {package}) is not installed here")
    return found


def environment_with(name: str, pins: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages and no others, created in the user's cache if it doesn't exist.

    Raises:
        NotInstallableError: It can't be created.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = hashlib.sha256("\n".join((sys.base_prefix, *pins)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "birdfeed" / f"{name}-{version}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "10"]
        command += ["--no-deps", *pins]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_WITHIN, check=False)
        except subprocess.TimeoutExpired:
            raise NotInstallableError(f"installing {name} took longer than {_INSTALL_WITHIN} s") from None
        if done.returncode != 0:
            raise NotInstallableError(f"{name} can't be installed: {done.stderr.strip()[-500:]}")
        (folder / "complete").touch()
    return python
