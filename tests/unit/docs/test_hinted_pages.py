"""Hints name pages of the documentation by title: each page and section exists."""

import ast
import re
from importlib.metadata import PackageNotFoundError

import pytest
from birdfeed_schemas.tables import pages
from birdfeed_worker.monitoring.verdict import RULES

from tests.support.repository import ROOT

DOCS = ROOT / "docs"
SOURCES = ("schemas", "producer", "worker", "cli", "sandbox")


def headings() -> dict[str, set[str]]:
    """A page's title → its headings."""
    found = {}
    for path in DOCS.rglob("*.md"):
        first, *others = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
        found[first] = set(others)
    return found


def named_pages() -> set[str]:
    """The first argument of each call of page() in the sources."""
    return {
        ast.literal_eval(node.args[0])
        for root in SOURCES
        for path in (ROOT / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "page"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_hinted_page_exists() -> None:
    """By its title; and the runbook's sections, which the verdict's rules name."""
    there = headings()
    assert "Run workers" in named_pages()
    assert named_pages() - there.keys() == set()
    assert {rule.section for rule in RULES} - there["Runbook"] == set()


def test_no_message_names_a_file_of_the_documentation() -> None:
    """An installed host has none; docstrings may, as only sources have them."""
    found = []
    for root in SOURCES:
        for path in (ROOT / root).rglob("*.py"):
            tree = ast.parse(path.read_text())
            docstrings = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and isinstance(node.body[0], ast.Expr)
            }
            found += [
                f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
                and re.search(r"\bdocs/\w[\w/-]*\.md", node.value)
            ]
    assert found == []


class Metadata:
    """A distribution's metadata with these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def get_all(self, name: str) -> list[str] | None:
        """All values of a field."""
        return self.addresses if name == "Project-URL" else None


@pytest.mark.parametrize(
    ("addresses", "place"),
    [
        (("Documentation, https://birdfeed.example/docs/",), "docs/ of birdfeed's source"),
        (("Homepage, https://b.org/", "Documentation, https://b.org/docs/"), "https://b.org/docs/"),
        ((), "docs/ of birdfeed's source"),
    ],
    ids=["unpublished", "published", "none"],
)
def test_where_the_documentation_is(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], place: str) -> None:
    """The URL in the package's metadata, set by its publisher; one under .example is ignored."""
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: Metadata(*addresses))
    assert pages.page("Runbook", "A bad deploy") == f'see "Runbook: A bad deploy" in the documentation ({place})'


def test_sources_without_a_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """On sys.path, not installed."""

    def metadata(name: str) -> Metadata:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.metadata", metadata)
    assert pages.page("Run workers") == 'see "Run workers" in the documentation (docs/ of birdfeed\'s source)'
