"""Tinybird's own parser, from its command line's package, in a virtual environment of its own: its pins clash.

With ours, that is. Nothing of it is imported here: scripts/parser_script.py runs in
it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.tools import NotInstallableError, environment_with

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
_PARSE_WITHIN: Final = 60


def environment() -> Path:
    """The Python of the parser's environment, made if it isn't there.

    Raises:
        NotInstallableError: It can't be made.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise NotInstallableError("Tinybird's package runs on Python 3.11 to 3.13")
    return environment_with("tinybird-parser", PINS)


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
