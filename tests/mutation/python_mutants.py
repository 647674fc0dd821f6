"""Change one thing in a Python module, run the unit tests that reach that line, and see whether one of them fails.

    python -m tests.mutation.python_mutants map MAP
    python -m tests.mutation.python_mutants run MAP [--sample N] [--seed N] [--only TEXT] FOLDER_OR_FILE ...

`map` runs the worker's unit tests once, with coverage, and writes to MAP which test reaches which line, and how long it
takes. `run` makes the mutants of the modules below worker/birdfeed_worker, or N of them drawn by the seed, and prints
those that survive. Nothing on disk is changed: a mutant is compiled in memory, in a child of a process that has already
loaded the libraries. Separate processes that the tests start run unchanged code.

Not changed are constants of a module, annotations, what is logged, and the texts of errors.
"""

import argparse
import ast
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final, TypeAlias

from tests.mutation.forked import failure, install_code, load_libraries, standing_valkey

ROOT: Final = Path(__file__).resolve().parents[2]
WORKER: Final = ROOT / "worker/birdfeed_worker"
#: The tests that may be run. Pricing's reach none of the folders.
TESTS: Final = tuple(
    f"tests/unit/worker/{name}"
    for name in ("dead_letters", "flow", "monitoring", "operations", "pipeline", "process", "queue", "tinybird")
)
#: Tests that take more seconds than this are left out: others reach the same lines.
SLOW: Final = 3.0

#: Tests that are tried before the others.
FIRST: Final = 25

#: Line, what is changed, and what changes the tree.
Site: TypeAlias = tuple[int, str, Callable[[], None]]

_COMPARE: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_BINARY: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


def sites(tree: ast.Module) -> Iterator[Site]:
    """Every single change to the functions of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from _in_block(node.body)
            for default in (*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)):
                yield from _in_expression(default)


def _in_block(body: list[ast.stmt]) -> Iterator[Site]:
    for at, statement in enumerate(body):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) or _is_text(statement) or _is_log(statement):
            continue
        if isinstance(statement, ast.Raise):
            yield _dropped(body, at)
            continue  # its texts are not part of the interface
        if isinstance(statement, ast.Expr | ast.AugAssign | ast.Delete):
            yield _dropped(body, at)
        if isinstance(statement, ast.Return) and statement.value is not None and not _is_none(statement.value):
            yield _replaced(body, at, ast.Return(value=ast.Constant(None)), "return None")
        if isinstance(statement, ast.Continue):
            yield _replaced(body, at, ast.Break(), "break")
        if isinstance(statement, ast.Break):
            yield _replaced(body, at, ast.Continue(), "continue")
        if isinstance(statement, ast.AnnAssign):
            if statement.value is not None:
                yield from _in_expression(statement.value)
            continue
        for field, value in ast.iter_fields(statement):
            if isinstance(value, ast.expr):
                if field == "test" and not isinstance(value, ast.Compare | ast.BoolOp):
                    yield _negated(statement, field, value)
                yield from _in_expression(value)
            elif isinstance(value, list):
                yield from _in_list(value)


def _in_list(values: list[Any]) -> Iterator[Site]:
    if values and isinstance(values[0], ast.stmt):
        yield from _in_block(values)
        return
    for value in values:
        if isinstance(value, ast.expr):
            yield from _in_expression(value)
        elif isinstance(value, ast.ExceptHandler | ast.match_case):
            yield from _in_block(value.body)
        elif isinstance(value, ast.withitem):
            yield from _in_expression(value.context_expr)


def _in_expression(root: ast.expr) -> Iterator[Site]:
    for node in ast.walk(root):
        match node:
            case ast.Compare(ops=[op]):
                for other in _COMPARE.get(type(op), ()):
                    yield _changed(node, "ops", [other()], type(other()).__name__)
            case ast.BoolOp(op=op):
                yield _changed(node, "op", ast.Or() if isinstance(op, ast.And) else ast.And(), "and <-> or")
            case ast.BinOp(op=op) if type(op) in _BINARY and not _is_type(node):
                yield _changed(node, "op", _BINARY[type(op)](), _BINARY[type(op)].__name__)
            case ast.UnaryOp(op=ast.Not()):
                yield _unnegated(node)
            case ast.IfExp():
                yield _negated(node, "test", node.test)
            case ast.comprehension():
                for at, condition in enumerate(node.ifs):
                    yield _without_condition(node, at, condition)
            case ast.Constant(value=bool(value)):
                yield _changed(node, "value", not value, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                yield _changed(node, "value", value + 1, str(value + 1))
            case ast.Constant(value=str(value)) if value and not hasattr(node, "in_text"):
                yield _changed(node, "value", value + "x", repr(value + "x"))
            case ast.JoinedStr():
                for part in node.values:
                    part.in_text = True  # type: ignore[attr-defined]


def _changed(node: ast.AST, field: str, new: Any, what: str) -> Site:
    before = ast.unparse(node)
    return node.lineno, f"{before}: {what}", lambda: setattr(node, field, new)  # type: ignore[attr-defined]


def _unnegated(node: ast.UnaryOp) -> Site:
    def apply() -> None:
        node.operand = ast.UnaryOp(op=ast.Not(), operand=node.operand)

    return node.lineno, f"{ast.unparse(node)}: without not", apply


def _negated(node: ast.AST, field: str, value: ast.expr) -> Site:
    new = ast.UnaryOp(op=ast.Not(), operand=value)
    return value.lineno, f"if {ast.unparse(value)}: negated", lambda: setattr(node, field, new)


def _without_condition(node: ast.comprehension, at: int, condition: ast.expr) -> Site:
    def apply() -> None:
        node.ifs[at] = ast.Constant(True)

    return condition.lineno, f"for ... if {ast.unparse(condition)}: always", apply


def _dropped(body: list[ast.stmt], at: int) -> Site:
    return _replaced(body, at, ast.Pass(), "dropped")


def _replaced(body: list[ast.stmt], at: int, new: ast.stmt, what: str) -> Site:
    def apply() -> None:
        body[at] = new

    return body[at].lineno, f"{ast.unparse(body[at]).splitlines()[0]}: {what}", apply


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_log(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("log.")


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_type(node: ast.BinOp) -> bool:
    """A union of classes, as isinstance takes it."""
    return isinstance(node.op, ast.BitOr) and all(
        isinstance(side, ast.Name) and side.id[:1].isupper() for side in (node.left, node.right)
    )


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the module, its number among the module's sites, the line, and what it is."""

    path: Path
    number: int
    line: int
    what: str
    #: The first and the last line of its function.
    function: tuple[int, int]

    def tests(self, reached: Mapping[str, Sequence[str]]) -> set[str]:
        """The tests that reach its line. Python reports no test for some lines of a long statement, and none for a
        default argument, which is read when the module is: then the tests of its function."""
        first, last = self.function
        return set(reached.get(str(self.line), ())) or {
            test for line in range(first + 1, last + 1) for test in reached.get(str(line), ())
        }

    def __str__(self) -> str:
        return f"{self.path.relative_to(WORKER)}:{self.line}: {self.what}"

    def compiled(self) -> CodeType:
        """The changed module."""
        tree = ast.parse(self.path.read_text())
        _, _, apply = list(sites(tree))[self.number]
        apply()
        return compile(ast.fix_missing_locations(tree), str(self.path), "exec")

    def install(self) -> None:
        """From now on an import of the module gives the changed one."""
        install_code(self.path, self.compiled())


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module."""
    tree = ast.parse(path.read_text())
    spans = [(one.lineno, one.end_lineno or one.lineno) for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    return [
        Mutant(path, number, line, what, max(span for span in spans if span[0] <= line <= span[1]))
        for number, (line, what, _) in enumerate(sites(tree))
    ]


def make_map(target: Path) -> None:
    """Which tests reach each line, and the seconds of each test.

    Raises:
        SystemExit: The tests fail, or were stopped, or the coverage can't be read; nothing is written then.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        environment = {**os.environ, "COVERAGE_FILE": str(data / "coverage")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-vv"]
        cover = ["--cov=birdfeed_worker", "--cov-context=test", "--cov-report=", "--cov-fail-under=0"]
        done = subprocess.run(
            [*command, *cover, *TESTS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(
                f"the tests fail without any change (exit code {done.returncode}):\n"
                f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
            )
        report = ["json", "--show-contexts", "-o", str(data / "coverage.json"), "--fail-under=0"]
        subprocess.run([sys.executable, "-m", "coverage", *report], cwd=ROOT, env=environment, check=True)  # says why
        covered = json.loads((data / "coverage.json").read_text())["files"]
    seconds: dict[str, float] = {}
    for line in done.stdout.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[1] in ("call", "setup", "teardown") and words[0].endswith("s"):
            seconds[words[2]] = seconds.get(words[2], 0.0) + float(words[0][:-1])
    reached = {
        name: {line: _names(contexts) for line, contexts in of["contexts"].items()} for name, of in covered.items()
    }
    tests = {test for lines in reached.values() for names in lines.values() for test in names}
    if not tests or not seconds:
        raise SystemExit(f"coverage reports {len(tests)} tests, pytest the seconds of {len(seconds)}: no map")
    target.write_text(json.dumps({"reached": reached, "seconds": seconds}))
    print(f"{target}: {len(tests)} tests, {len(reached)} modules")


def _names(contexts: list[str]) -> list[str]:
    """The tests of coverage's contexts, which say also whether a fixture or the test itself ran."""
    return sorted({context.partition("|")[0] for context in contexts if context})


def _failure(mutant: Mutant, tests: list[str], seconds: dict[str, float]) -> str:
    """The test that fails for it, or nothing.

    A few tests run first: most mutants need no more, and few files are imported.
    """
    for part in (tests[:FIRST], tests[FIRST:]):
        if part and (found := failure(mutant.install, part, sum(seconds.get(test, 0.0) for test in part))):
            return found
    return ""


def main() -> int:
    """Exit code 1 if a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["map", "run"])
    parser.add_argument("map", type=Path)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--skip", type=int, default=0, help="so many of these, which were run before")
    parser.add_argument("--only", default="", help="mutants whose line in the report holds this text")
    asked = parser.parse_intermixed_args()
    if asked.step == "map":
        make_map(asked.map)
        return 0
    known = json.loads(asked.map.read_text())
    paths = [WORKER / name for name in asked.modules]
    files = [one for path in paths for one in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    made = [mutant for path in files for mutant in mutants(path) if asked.only in str(mutant)]
    total = len(made)
    if asked.sample is not None and asked.sample < total:
        made = random.Random(asked.seed).sample(made, asked.sample)
    made = made[asked.skip :]
    load_libraries()
    seconds: dict[str, float] = known["seconds"]
    lived = unreached = 0
    with standing_valkey():
        tests_of = {
            mutant: sorted(
                (
                    test
                    for test in mutant.tests(known["reached"].get(str(mutant.path.relative_to(ROOT)), {}))
                    if seconds.get(test, 0.0) < SLOW
                ),
                key=lambda test: (mutant.path.stem not in test, seconds.get(test, 0.0), test),
            )
            for mutant in made
        }
        every = sorted(set().union(*tests_of.values()))
        if why := failure(None, every, sum(seconds.get(test, 0.0) for test in every)):
            raise SystemExit(f"the tests fail without any change: {why}")
        for number, (mutant, tests) in enumerate(tests_of.items(), 1 + asked.skip):
            if not tests:
                unreached += 1
                print(f"{number}: no test reaches {mutant}", flush=True)
            elif not (why := _failure(mutant, tests, seconds)):
                lived += 1
                print(f"{number}: lives: {mutant} ({len(tests)} tests)", flush=True)
            elif not why.startswith("tests/"):
                print(f"{number}: died, but of no test: {mutant} ({why})", flush=True)
            if number % 10 == 0:
                print(f"{number} tried", file=sys.stderr, flush=True)
    dead = len(made) - lived - unreached
    print(f"{dead} of {len(made)} died ({total} in all), {lived} live, {unreached} are reached by no unit test")
    return 1 if lived or unreached else 0


if __name__ == "__main__":
    sys.exit(main())
