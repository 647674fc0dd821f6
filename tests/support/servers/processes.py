"""Processes that are not our own children, and so can't be waited for."""

import os
from pathlib import Path


def ended(pid: int) -> bool:
    """Whether it has ended. One that has, and that nobody waited for (where nobody adopts orphans), has ended, too."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        # Gone this moment, or a system without /proc: the next look tells.
        return False
