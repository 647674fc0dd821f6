"""Remove each condition, and each command on its own line, from the Lua scripts, and run their tests.

    python -m tests.mutation.lua_guards [SCRIPT ...]

Tests are collected once, and run once unchanged, to see which scripts each of them calls; a mutant is then tried on
those that call its script, the quickest files first, until one fails. Each runs in a child of this process: nothing on
disk is changed. Prints the mutants that survive, for which no test fails.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha1
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.mutation.forked import LOADED_ALREADY, in_child, install_script, load_libraries, standing_valkey

UNIT: Final = "tests/unit/worker"
#: Tests that may call a script in their own process.
TESTS: Final = (
    *(f"{UNIT}/{folder}" for folder in ("scripts", "queue", "flow", "dead_letters", "pipeline", "process")),
    *(f"{UNIT}/operations/test_{name}.py" for name in ("purge", "replay", "transfer", "forget")),
    f"{UNIT}/monitoring/test_ledger.py",
    f"{UNIT}/monitoring/test_status.py",
)
#: Tests that take more seconds than this are left out: what only such a test finds needs a quicker test.
SLOW: Final = 1.5
LUA: Final = Path(__file__).resolve().parents[2] / "worker/birdfeed_worker/queue/lua"
#: Files that are part of every script, or of every one that writes.
SHARED: Final = ("common", "writes")

_CONDITION: Final = re.compile(r"\b(?:if|elseif)\s+(.+?)\s+then\b")
_COMMAND: Final = re.compile(r"(?:redis\.p?call|add|tally|dead_bytes|hand_out|note|look|drop_executions?)\(")


def mutants(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number (from 1), what is changed, and the changed script."""
    lines = text.split("\n")
    for number, line in enumerate(lines):

        def changed(new: str, number: int = number, count: int = 1) -> str:
            return "\n".join([*lines[:number], new, *[""] * (count - 1), *lines[number + count :]])

        code = line.split("--")[0]
        for found in _CONDITION.finditer(code):
            condition = found[1]
            parts = [condition[: op.start()] for op in re.finditer(r"\s(?:and|or)\s", condition)]
            parts += [condition[op.end() :] for op in re.finditer(r"\s(?:and|or)\s", condition)]
            for new in ("true", "false", *(part for part in parts if part.count("(") == part.count(")"))):
                yield number + 1, f"{condition} -> {new}", changed(line[: found.start(1)] + new + line[found.end(1) :])
        if _COMMAND.match(code.strip()):
            count = 1
            while code.count("(") > code.count(")"):
                code += lines[number + count]
                count += 1
            yield number + 1, f"without {code.strip()}", changed("", count=count)


class Guards:
    """A pytest plugin that tries the mutants instead of running the tests once."""

    def __init__(self, chosen: set[str]) -> None:
        self.chosen = chosen
        self.made = self.lived = 0
        self.said: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.said["seconds"] = self.said.get("seconds", 0.0) + report.duration
        if report.failed:
            self.said["failed"] = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = [item for item in session.items if not item.get_closest_marker("soak")]
        known = {one["test"]: one for one in map(json.loads, in_child(partial(self._look, items), 1_200.0))}
        if missing := [item.nodeid for item in items if item.nodeid not in known]:
            raise pytest.UsageError(f"without any change this is not reached: {missing[0]}")
        if failed := [name for name, one in known.items() if one["failed"]]:
            raise pytest.UsageError(f"without any change this fails: {failed[0]}")
        for path in sorted(LUA.glob("*.lua")):
            if not self.chosen or path.stem in self.chosen:
                self._try(path, _quickest_first(items, known, path.stem))
        print(f"{self.made - self.lived} of {self.made} died", flush=True)
        return True

    def _look(self, items: Sequence[pytest.Item], say: Callable[[str], None]) -> None:
        with _calls() as called:
            for item, following in zip(items, [*items[1:], None], strict=True):
                self.said.clear()
                called.clear()
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                found = {"seconds": self.said["seconds"], "failed": "failed" in self.said, "scripts": sorted(called)}
                say(json.dumps({"test": item.nodeid, **found}))

    def _try(self, path: Path, tests: tuple[list[pytest.Item], float]) -> None:
        items, seconds = tests
        began, made_before, lived_before = time.monotonic(), self.made, self.lived
        for line, what, mutant in mutants(path.read_text()):
            self.made += 1
            said = in_child(partial(self._fails, items, partial(install_script, path, mutant)), 2 * seconds + 30)
            if not said:
                raise RuntimeError(f"{path.name}:{line}: {what}: the child ended without a word")
            if "lives" in said:
                self.lived += 1
                print(f"{path.name}:{line}: {what}", flush=True)
        made, lived = self.made - made_before, self.lived - lived_before
        took = time.monotonic() - began
        print(f"{path.name}: {made - lived} of {made} died, {len(items)} tests, {took:.0f} s", flush=True)

    def _fails(self, items: Sequence[pytest.Item], change: Callable[[], None], say: Callable[[str], None]) -> None:
        change()
        self.said.clear()
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if "failed" in self.said:
                return say(self.said["failed"])
        say("lives")


def _quickest_first(
    items: Sequence[pytest.Item], known: dict[str, Any], script: str
) -> tuple[list[pytest.Item], float]:
    """The tests that call the script, grouped by file, and the seconds they take."""

    def calls(item: pytest.Item) -> bool:
        one = known[item.nodeid]
        return bool(one["seconds"] < SLOW and one["scripts"] and (script in SHARED or script in one["scripts"]))

    chosen = [item for item in items if calls(item)]
    files: dict[Path, list[float]] = {}
    for item in chosen:
        files.setdefault(item.path, []).append(known[item.nodeid]["seconds"])
    chosen.sort(key=lambda item: (sum(files[item.path]) / len(files[item.path]), str(item.path)))
    return chosen, sum(known[item.nodeid]["seconds"] for item in chosen)


def _calls() -> AbstractContextManager[set[str]]:
    """Records the names of the scripts that are called from now on."""
    from contextlib import contextmanager

    from birdfeed_schemas.wire.keys import Keys
    from birdfeed_worker.queue.scripts import script
    from redis import Redis
    from redis.client import Pipeline

    reader: Any = SimpleNamespace(register_script=lambda text: sha1(text.encode()).hexdigest())
    stems = [path.stem for path in LUA.glob("*.lua") if path.stem not in SHARED]
    names = {script(reader, Keys("rq", "q"), stem).script: stem for stem in stems}
    called: set[str] = set()

    @contextmanager
    def noted() -> Iterator[set[str]]:
        with pytest.MonkeyPatch.context() as patch:
            for owner in (Redis, Pipeline):
                real = owner.execute_command

                def execute(self: Any, *args: Any, real: Any = real, **more: Any) -> Any:
                    if args[0] == "EVALSHA":
                        called.add(names.get(args[1], ""))
                    return real(self, *args, **more)

                patch.setattr(owner, "execute_command", execute)
            yield called

    return noted()


def main() -> int:
    """Exit code 1 if a mutant survives."""
    load_libraries()
    guards = Guards(set(sys.argv[1:]))
    with standing_valkey():
        options = ["-q", "-s", "--no-cov", "-p", "no:cacheprovider", "--timeout=20", *LOADED_ALREADY]
        code = pytest.main([*options, "-k", "not bomb and not million", *TESTS], plugins=[guards])
    return int(code) or int(guards.lived > 0)


if __name__ == "__main__":
    sys.exit(main())
