"""Take out each condition, and each command that is a line by itself, of the Lua scripts, and run their tests.

    python -m tests.mutation.lua_guards FOLDER [SCRIPT ...]

FOLDER is a copy of the sources (`git archive HEAD | tar x -C FOLDER`): the scripts in it are changed while this runs.
Prints the mutants that live, which no test fails for. Each takes 5 to 12 s; there are about 340.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
#: Seconds after which a mutant counts as dead: something waits for ever.
SECONDS: Final = 300

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


def dies(folder: Path, script: str) -> bool:
    """Whether a test fails."""
    tests = OTHERS.get(script, MOVING)
    options = ["-q", "-x", "--timeout", "40", "-p", "no:cacheprovider", "-k", "not bomb and not million"]
    roots = ["cli", "producer", "sandbox", "schemas", "worker", "."]
    code = f"import sys; sys.path[:0] = {roots!r}; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *options, *tests],
            cwd=folder,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main() -> int:
    """Exit code 1 if a mutant lives."""
    folder, chosen = Path(sys.argv[1]).resolve(), set(sys.argv[2:])
    made = lived = 0
    for path in sorted((folder / "worker/birdfeed_worker/queue/lua").glob("*.lua")):
        if chosen and path.stem not in chosen:
            continue
        text = path.read_text()
        if dies(folder, path.stem):
            raise SystemExit(f"the tests of {path.stem} fail without any change")
        for line, what, mutant in mutants(text):
            path.write_text(mutant)
            try:
                dead = dies(folder, path.stem)
            finally:
                path.write_text(text)
            made += 1
            if not dead:
                lived += 1
                print(f"{path.name}:{line}: {what}", flush=True)
    print(f"{made - lived} of {made} died")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
