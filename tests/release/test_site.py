"""The documentation site builds strictly, and needs nothing from the network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

#: What a browser loads by itself; links may lead to any host.
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
LOADED_BY_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


def build(project: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build` as `make site` runs it, into `project`/site."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", str(project / "mkdocs.yml")],
        capture_output=True,
        text=True,
        timeout=120,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
        check=False,
    )


def copied(folder: Path) -> Path:
    """Copies only the documentation into a folder."""
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The documentation alone, to build and to break."""
    return copied(tmp_path)


def test_the_site_builds_and_loads_nothing_from_other_hosts(project: Path) -> None:
    """No warning, every page, no script, style or picture of another server."""
    result = build(project)

    assert result.returncode == 0, result.stderr
    site = project / "site"
    pages = {str(path.relative_to(project / "docs").with_suffix(".html")) for path in (project / "docs").rglob("*.md")}
    assert pages <= {str(path.relative_to(site)) for path in site.rglob("*.html")}
    loaded = [
        (path.name, found)
        for path in site.rglob("*")
        if path.suffix in {".html", ".css"}
        for pattern in (LOADED, LOADED_BY_STYLE)
        for found in pattern.findall(path.read_text())
    ]
    assert loaded == []


@pytest.mark.parametrize(
    "planted", ["[nowhere](nowhere.md)", "[no such part](reference/glossary.md#nowhere)", '--8<-- "nowhere.svg"']
)
def test_a_broken_link_fails_the_build(project: Path, planted: str) -> None:
    """To a page, a section of a page, and a picture that don't exist."""
    with (project / "docs" / "index.md").open("a") as page:
        page.write(f"\n{planted}\n")

    result = build(project)

    assert result.returncode != 0
    assert "nowhere" in result.stderr


def test_the_check_of_what_is_loaded() -> None:
    """A font, a script and a picture of another server are found; a link is not."""
    page = (
        '<a href="https://a.example"><script src="https://b.example/x.js"></script><img alt="" src=//c.example/y.png>'
    )

    assert LOADED.findall(page) == ["https://b.example/x.js", "//c.example/y.png"]
    assert LOADED_BY_STYLE.findall("@import 'https://d.example/font.css'; p{background:url(//e.example/z)}") == [
        "https://d.example/font.css",
        "//e.example/z",
    ]
