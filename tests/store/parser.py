"""Tinybird's own parser, from the package of its command line, in a separate virtual environment.

Its pinned dependencies conflict with ours. Nothing of it is imported here: scripts/parser_script.py runs in that
environment.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.tools import NotInstallableError, environment_with

#: The parser without its declared dependencies, and what parsing files really needs. lru-dict is not declared at all,
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
_PARSE_WITHIN: Final = 60


def environment() -> Path:
    """The Python of the parser's environment, created if it doesn't exist.

    Raises:
        NotInstallableError: It can't be created.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise NotInstallableError("Tinybird's package runs on Python 3.11 to 3.13")
    return environment_with("tinybird-parser", PINS)


def parse(python: Path, project: Path, renderings: list[dict[str, str]]) -> dict[str, Any]:
    """Parse a project with Tinybird's parser. Returns the result by file name, or the error of a file under "error".

    Args:
        python: See environment().
        project: A folder with datasources/ and endpoints/.
        renderings: Parameters with which every pipe's nodes are rendered.
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
