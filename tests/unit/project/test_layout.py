"""The layout: small folders, no cyclic imports between modules."""

from collections import Counter
from pathlib import Path

import pytest
from grimp import build_graph

from tests.support.repository import ROOT

PACKAGES = ("birdfeed_schemas", "birdfeed", "birdfeed_worker", "birdfeed_sandbox", "birdfeed_cli")
SOURCES = ("schemas", "producer", "worker", "cli", "sandbox", "bench", "examples", "tests")
MOST_MODULES = 12


def crowded(root: Path) -> dict[str, int]:
    """Folders below that hold more than MOST_MODULES modules (without `__init__` and `conftest`), and how many."""
    modules = Counter(
        str(path.parent.relative_to(root))
        for top in SOURCES
        for path in (root / top).rglob("*.py")
        if path.name not in {"__init__.py", "conftest.py"}
    )
    return {folder: number for folder, number in modules.items() if number > MOST_MODULES}


def test_no_folder_is_crowded() -> None:
    """A folder of more than twelve modules must be split."""
    assert crowded(ROOT) == {}


def test_a_thirteenth_module_is_found(tmp_path: Path) -> None:
    """The check itself: twelve modules pass, thirteen do not."""
    folder = tmp_path / "worker" / "birdfeed_worker" / "pipeline"
    folder.mkdir(parents=True)
    for number in range(MOST_MODULES):
        (folder / f"stage{number}.py").touch()
    assert crowded(tmp_path) == {}

    (folder / "one_more.py").touch()

    assert crowded(tmp_path) == {"worker/birdfeed_worker/pipeline": MOST_MODULES + 1}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module -> our modules it imports, without imports for type checking."""
    graph = build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def test_no_modules_import_each_other_in_a_cycle(imports: dict[str, set[str]]) -> None:
    """Modules without imports of other modules are removed until none is left.

    The rest is in a cycle or imports one.
    """
    left = {module: set(others) - {module} for module, others in imports.items()}
    while free := {module for module, others in left.items() if not others}:
        left = {module: others - free for module, others in left.items() if module not in free}
    assert left == {}


def test_test_helpers_import_no_tests() -> None:
    """tests/support is below every test."""
    named = [
        f"{path.name}: {line}"
        for path in (ROOT / "tests" / "support").rglob("*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("from tests", "import tests")) and "tests.support" not in line
    ]
    assert named == []
