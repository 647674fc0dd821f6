"""Docstrings agree with the code: each name under `Args:` is a parameter."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.repository import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: `    name:` or `    one, other:`, as the first line of an argument.
NAMES = re.compile(r"^    (\w+(?:, \w+)*): ", re.MULTILINE)


def described(docstring: str | None) -> list[str]:
    """The names under `Args:`."""
    _, found, rest = (docstring or "").partition("Args:\n")
    if not found:
        return []
    return [name for names in NAMES.findall(re.split(r"\n\n|\n(?=\S)", rest)[0]) for name in names.split(", ")]


def parameters(function: Function) -> set[str]:
    """Names of all parameters."""
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    return {argument.arg for argument in every if argument is not None}


def stale(text: str) -> Iterator[tuple[str, str]]:
    """(Function or class, name under `Args:`) without such a parameter or field."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            known = parameters(node)
        elif isinstance(node, ast.ClassDef):
            known = {
                each.target.id
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            }
            for each in node.body:
                if isinstance(each, Function) and each.name in {"__init__", "__new__"}:
                    known |= parameters(each)
        else:
            continue
        yield from ((node.name, name) for name in described(ast.get_docstring(node)) if name not in known)


@pytest.mark.parametrize("root", ["schemas", "producer", "worker", "cli", "sandbox"])
def test_arguments_in_docstrings_exist(root: str) -> None:
    """A parameter that was renamed is renamed in its docstring too."""
    found = [
        f"{path.relative_to(ROOT)}: {where} has no {name}"
        for path in sorted((ROOT / root).rglob("*.py"))
        for where, name in stale(path.read_text())
    ]
    assert found == [], "\n" + "\n".join(found)


def test_a_stale_name_is_found() -> None:
    """The check itself, for a function and for a class with fields and with an `__init__`."""
    text = '''
def one(new: int) -> None:
    """Do it.

    Args:
        old: A number, which
            may be 0.
        new: Another.

    Raises:
        ValueError: It is 1.
    """

class Two:
    """Keeps it.

    Args:
        kept, lost: Two things.
    """

    kept: int
'''
    assert list(stale(text)) == [("one", "old"), ("Two", "lost")]
