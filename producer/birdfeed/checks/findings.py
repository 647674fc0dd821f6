"""What was looked at, in one sentence each, and what to do about it: `birdfeed.check()`, `birdfeed doctor`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: ok: as it should be; unknown: it can't be asked from here, which need not be wrong; warning: events may be lost, late
#: or not as meant; wrong: the settings are wrong, or nothing is sent; down: something can't be reached or does not run.
State: TypeAlias = Literal["ok", "unknown", "warning", "wrong", "down"]

#: What a state is for an exit code: docs/reference/outcomes.md.
EXIT_CODES: Final[dict[State, int]] = {"ok": 0, "unknown": 0, "warning": 1, "wrong": 2, "down": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What: settings, sends, spool, redis, pool, ...
        state: How it is.
        found: What was found, in one sentence, without secrets.
        advice: What to do; empty where there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.state}: {self.found}" + (f"; {self.advice}" if self.advice else "")


def exit_code(checks: Iterable[Check]) -> int:
    """0 all is well; 1 something is not as it should be; 2 the settings are wrong; 3 something can't be reached."""
    return max((EXIT_CODES[check.state] for check in checks), default=0)
