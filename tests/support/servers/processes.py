"""Processes that are not our own children, and so can't be waited for."""

import os
from pathlib import Path


def ended(pid: int) -> bool:
    """Whether it has exited. A zombie (where no process adopts orphans) has exited, too."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        # It exits at this moment, or there is no /proc: the next check shows it.
        return False
