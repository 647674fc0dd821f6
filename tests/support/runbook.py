"""Shared by the tests of docs/how-to/runbook.md: its sections and their commands, and the status of a system."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.redis_time import redis_time

from tests.support.events import text
from tests.support.repository import DOCS
from tests.support.servers.system import System
from tests.support.wait import eventually

RUNBOOK = DOCS / "how-to" / "runbook.md"


def commands_of(title: str) -> list[list[str]]:
    """The commands of a section, split into words."""
    section = RUNBOOK.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^    (birdfeed .*)$", section, re.MULTILINE)]


def says(title: str, words: str) -> str:
    """Checks that the section has these words, and returns them."""
    section = RUNBOOK.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert words in " ".join(section.split()), f"the section {title!r} doesn't say {words!r}"
    return words


def numbered(count: int, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    return [("text_generation", text(request_id=f"r{number}", **fields)) for number in range(count)]


def status(system: System) -> str:
    """What `birdfeed status` shows, on one line."""
    return " ".join(system.run("status").stdout.split())


def named(system: System, words: str) -> None:
    """Wait until `birdfeed status` has these words, at most 15 s after the fault, as the docs promise.

    The time is that of the verdict; starting the command several times on a busy machine takes longer.
    """

    def found() -> bool:
        return words in " ".join(read_status(system.redis, system.keys, redis_time(system.redis)).problems)

    eventually(found, what=f"the verdict says {words!r}", within=15.0)
    assert words in status(system)


def follow(system: System, commands: Sequence[Sequence[str]]) -> list["subprocess.CompletedProcess[str]"]:
    """Run the commands, and wait until the queue is empty before the status is checked."""
    done = []
    for before, command in zip([["begin"], *commands], commands, strict=False):
        if before[0] == "resume" or command[0] in {"status", "ledger"}:
            settled(system)
        result = system.run(*command)
        said = result.stdout + result.stderr
        assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}: {said}"
        done.append(result)
    assert "The ledger balances." in done[-1].stdout
    return done


def settled(system: System) -> None:
    system.drained(within=120)


def all_once(system: System, count: int) -> None:
    assert system.rows() == {f"r{number}": 1 for number in range(count)}
    assert system.dead() == []
