"""Generate the tables of folders in docs/explanation/architecture.md: `python -m docs.scripts.folders`.

A folder's description is the first paragraph of the docstring in its `__init__.py`.
"""

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "architecture.md"
PACKAGES: Final = (
    "producer/birdfeed",
    "worker/birdfeed_worker",
    "schemas/birdfeed_schemas",
    "cli/birdfeed_cli",
    "sandbox/birdfeed_sandbox",
)
#: This script generates what follows this line in the page.
MARK: Final = "<!-- from here on made by `make docs` from docstrings; a test fails if it is out of date -->\n"


def tables() -> str:
    """One table for each package, with one row for each of its folders that contains code."""
    lines = []
    for package in PACKAGES:
        lines += ["", f"### {package}", "", _meaning(ROOT / package), "", "| folder | holds |", "| --- | --- |"]
        for found in sorted((ROOT / package).rglob("__init__.py")):
            folder = found.parent.relative_to(ROOT / package).as_posix()
            if folder != ".":
                lines.append(f"| `{folder}` | {_meaning(found.parent)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with its tables as they should be."""
    return PAGE.read_text().split(MARK)[0] + MARK + tables()


def _meaning(folder: Path) -> str:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page())
