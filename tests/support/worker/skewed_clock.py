"""A host whose clock is wrong: in Python processes with this environment, time.time() is wrong by so many seconds."""

import os
import sys
from pathlib import Path

MODULE = """
import os, time
_real, _skew = time.time, float(os.environ["TESTS_CLOCK_SKEW"])
time.time = lambda: _real() + _skew
"""


def skewed(folder: Path, seconds: float) -> dict[str, str]:
    """Environment for a process, and its children, whose clock is `seconds` ahead; nothing for 0."""
    if not seconds:
        return {}
    place = folder / "skewed"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(MODULE)
    path = os.pathsep.join([str(place), *(entry for entry in sys.path if entry)])
    return {"PYTHONPATH": path, "TESTS_CLOCK_SKEW": str(seconds)}
