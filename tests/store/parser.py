"""Tinybird's own parser, from its command line's package, in a virtual environment of its own: its pins clash.

With ours, that is. Made once, under the user's cache; nothing of it is imported here: scripts/parser_script.py runs in
it.
"""

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

#: The parser without what it declares, and what the parsing of files truly needs. lru-dict is not declared at all,
#: and without it no SQL is checked.
PINS: Final = (
    "tinybird==5.0.3",
    "certifi==2026.10.18",
    "charset-normalizer==3.5.2",
    "click==8.1.8",
    "clickhouse-toolset==0.34.dev0",
    "croniter==7.0.0",
    "idna==3.20",
    "lru-dict==1.4.1",
    "mypy-extensions==1.2.0",
    "python-dateutil==4.0.0",
    "requests==2.34.2",
    "six==1.17.0",
    "toposort==1.10",
    "tornado==6.6.1",
    "tzdata==2026.6",
    "urllib3==2.8.0",
)
#: Seconds.
_INSTALL_WITHIN: Final = 300
_PARSE_WITHIN: Final = 60


class NoParserError(Exception):
    """The parser, or another package of Tinybird's, can't be installed here; the text says why."""


def environment() -> Path:
    """The Python of the parser's environment, made if it isn't there.

    Raises:
        NoParserError: It can't be made.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise NoParserError("Tinybird's package runs on Python 3.11 to 3.13")
    return environment_with("tinybird-parser", PINS)


def environment_with(name: str, pins: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages and no others, made if it isn't there.

    Raises:
        NoParserError: It can't be made.
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
            raise NoParserError(f"installing {name} took longer than {_INSTALL_WITHIN} s") from None
        if done.returncode != 0:
            raise NoParserError(f"{name} can't be installed: {done.stderr.strip()[-500:]}")
        (folder / "complete").touch()
    return python


def parse(python: Path, project: Path, renderings: list[dict[str, str]]) -> dict[str, Any]:
    """What Tinybird's parser reads in a project: by file name, or the error of a file under "error".

    Args:
        python: See environment().
        project: A folder with datasources/ and endpoints/.
        renderings: Parameters that every pipe's nodes are rendered with.
    """
    done = subprocess.run(
        [str(python), str(Path(__file__).parent / "scripts" / "parser_script.py"), str(project)],
        input=json.dumps(renderings),
        capture_output=True,
        text=True,
        timeout=_PARSE_WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read
