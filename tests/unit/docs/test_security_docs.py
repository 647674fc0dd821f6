"""docs/explanation/security.md: the documented times are those of the code."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from birdfeed.settings import ProducerSettings
from birdfeed_worker.settings import WorkerSettings

from tests.support.repository import DOCS, ROOT

#: A constant of the code, or a setting's default, and its value.
STATED = re.findall(r"\| `([\w.]+)` = (-?[\d.]+) \|$", (DOCS / "explanation" / "security.md").read_text(), re.MULTILINE)
#: Names of constants for how long the code keeps something in Redis.
KEPT = re.compile(r"\w*(?:_TTL|KEPT|KEPT_SECONDS|REMEMBER_SECONDS|UNREPLICATED_SECONDS)|SAMPLES")


def defaults() -> dict[str, object]:
    return {
        f"BIRDFEED_{name.upper()}": field.default
        for model in (ProducerSettings, WorkerSettings)
        for name, field in model.model_fields.items()
    }


def constants(path: Path) -> set[str]:
    """Dotted names of the constants in a file for how long something is kept."""
    package = next(parent for parent in path.parents if not (parent / "__init__.py").exists())
    module = ".".join(path.relative_to(package).with_suffix("").parts)
    return {
        f"{module}.{node.target.id}"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and KEPT.fullmatch(node.target.id)
    }


@pytest.mark.parametrize(("name", "value"), STATED, ids=[name for name, _ in STATED])
def test_a_documented_time_is_the_codes(name: str, value: str) -> None:
    """Constants by their dotted name, settings by their variable."""
    module, _, constant = name.rpartition(".")
    found = getattr(import_module(module), constant) if module else defaults()[name]

    assert float(value) == found


def test_every_time_in_the_code_is_documented() -> None:
    """A new kind of key in Redis needs its row."""
    found = {
        name
        for top in ("producer/birdfeed", "worker/birdfeed_worker")
        for path in (ROOT / top).rglob("*.py")
        for name in constants(path)
    }

    assert len(found) > 5
    assert found - {name for name, _ in STATED} == set()
