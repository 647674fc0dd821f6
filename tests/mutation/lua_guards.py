"""Take out each condition, and each command that is a line by itself, of the Lua scripts, and run their tests.

    python -m tests.mutation.lua_guards [SCRIPT ...]

Nothing on disk is changed. Prints the mutants that live, which no test fails for; there are about 350.
"""

import re
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.mutation.forked import failure, install_script, load_libraries, standing_valkey

UNIT: Final = "tests/unit/worker"
#: Tests of the scripts by which jobs move; and of the others.
MOVING: Final = (
    f"{UNIT}/queue/test_leases.py",
    f"{UNIT}/queue/test_reserve_and_settle.py",
    f"{UNIT}/queue/test_rq_internals.py",
    f"{UNIT}/pipeline/test_odd_jobs.py",
)
SENDING: Final = (f"{UNIT}/flow", f"{UNIT}/pipeline/test_odd_jobs.py", f"{UNIT}/pipeline/test_write.py")
OTHERS: Final[dict[str, tuple[str, ...]]] = {
    "admit": SENDING,
    "report": SENDING,
    "circuit_breaker": SENDING,
    "adopt": (f"{UNIT}/dead_letters",),
    "merge": (f"{UNIT}/dead_letters",),
    "move": tuple(f"{UNIT}/operations/test_{name}.py" for name in ("purge", "replay", "transfer")),
    "ledger": (f"{UNIT}/monitoring/test_ledger.py", f"{UNIT}/pipeline/test_odd_jobs.py"),
    "beat": (f"{UNIT}/process/test_loop.py", f"{UNIT}/process/test_watchdogs.py"),
    "writes": ("tests/e2e/redis/test_full.py",),
}
#: Seconds in which the tests of any script must pass.
SECONDS: Final = 300.0
LUA: Final = Path(__file__).resolve().parents[2] / "worker/birdfeed_worker/queue/lua"

_CONDITION: Final = re.compile(r"\b(?:if|elseif)\s+(.+?)\s+then\b")
_COMMAND: Final = re.compile(r"(?:redis\.p?call|add|drop_executions?)\(.*\)$")


def mutants(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number (from 1), what is changed, and the changed script."""
    lines = text.split("\n")
    for number, line in enumerate(lines):

        def changed(new: str, number: int = number) -> str:
            return "\n".join([*lines[:number], new, *lines[number + 1 :]])

        code = line.split("--")[0]
        for found in _CONDITION.finditer(code):
            condition = found[1]
            parts = [condition[: op.start()] for op in re.finditer(r"\s(?:and|or)\s", condition)]
            parts += [condition[op.end() :] for op in re.finditer(r"\s(?:and|or)\s", condition)]
            for new in ("true", "false", *(part for part in parts if part.count("(") == part.count(")"))):
                yield number + 1, f"{condition} -> {new}", changed(line[: found.start(1)] + new + line[found.end(1) :])
        if _COMMAND.match(code.strip()):
            yield number + 1, f"without {code.strip()}", changed("")


def main() -> int:
    """Exit code 1 if a mutant lives."""
    chosen = set(sys.argv[1:])
    made = lived = 0
    load_libraries()
    with standing_valkey():
        for path in sorted(LUA.glob("*.lua")):
            if chosen and path.stem not in chosen:
                continue
            tests = [*OTHERS.get(path.stem, MOVING), "-k", "not bomb and not million"]
            began = time.monotonic()
            if why := failure(None, tests, SECONDS):
                raise SystemExit(f"the tests of {path.stem} fail without any change: {why}")
            seconds = time.monotonic() - began
            for line, what, mutant in mutants(path.read_text()):
                made += 1
                if not failure(partial(install_script, path, mutant), tests, seconds):
                    lived += 1
                    print(f"{path.name}:{line}: {what}", flush=True)
            print(f"{path.name}: {made - lived} of {made} died so far", flush=True)
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
