"""The findings of `birdfeed.check()` and `birdfeed doctor`: one sentence each, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: ok: as it should be; unknown: it can't be checked from here, which need not be a problem; warning: events may be
#: lost, late or not as intended; wrong: the settings are wrong, or nothing is sent; down: something is unreachable or
#: not running.
State: TypeAlias = Literal["ok", "unknown", "warning", "wrong", "down"]

#: State → exit code: docs/reference/outcomes.md.
EXIT_CODES: Final[dict[State, int]] = {"ok": 0, "unknown": 0, "warning": 1, "wrong": 2, "down": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was checked: settings, sends, spool, redis, pool, ...
        state: ok, unknown, warning, wrong or down.
        found: What was found, in one sentence, without secrets.
        advice: What to do; empty if there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.state}: {self.found}" + (f"; {self.advice}" if self.advice else "")


def exit_code(checks: Iterable[Check]) -> int:
    """0: all is well; 1: there is a warning; 2: the settings are wrong; 3: something is unreachable or not running."""
    return max((EXIT_CODES[check.state] for check in checks), default=0)
