"""Tests that pages name exist: each promise has its test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import DOCS, ROOT

PROMISES = DOCS / "explanation" / "promises.md"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "tests").rglob("*.md"), *(ROOT / "sandbox").rglob("*.md")]
#: Files in a page's examples that its reader writes.
THE_READERS = {"tests/test_audio.py"}
_TEST_FILE = re.compile(r"(?:[\w/]+/)?test_\w+\.py")


def defined() -> dict[str, set[str]]:
    """Names of tests, by their file's path."""
    return {
        path.relative_to(ROOT).as_posix(): set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.M))
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def missing(text: str, tests: dict[str, set[str]]) -> Iterator[str]:
    """Names on a page that don't exist."""
    every = set().union(*tests.values(), re.findall(r"^def (test_\w+)", text, re.M))
    for name in set(re.findall(r"\btest_\w+\b(?![.\w/])", text)) - every:
        yield name
    for end in set(re.findall(r"`\.\.\.(_[a-z]\w+)`", text)):
        if "`test_" in text and not any(name.endswith(end) for name in every):
            yield f"...{end}"
    for file in set(_TEST_FILE.findall(text)) - THE_READERS:
        if not any(path == file or path.endswith(f"/{file}") for path in tests):
            yield file
    for name, file in re.findall(rf"`(test_\w+)`(?: and its neighbours)? \(({_TEST_FILE.pattern})\)", text):
        if not any(name in found for path, found in tests.items() if path == file or path.endswith(f"/{file}")):
            yield f"{name} in {file}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_is_named_exists(page: Path) -> None:
    """A function, an end of its name after three dots, or a file; and the function is in the file beside it."""
    assert list(missing(page.read_text(), defined())) == []


def test_every_promise_names_its_test() -> None:
    """In the last column of its row."""
    rows = [
        line.strip("| ").split(" | ")
        for table in re.findall(
            r"(?m)^\| fault \| what happens \| test \|\n\|[- |]+\n((?:\|.*\n)+)", PROMISES.read_text()
        )
        for line in table.splitlines()
    ]

    assert len(rows) > 45
    assert [row[0] for row in rows if len(row) != 3 or "test_" not in row[2]] == []


def test_a_missing_name_is_found() -> None:
    tests = {"tests/e2e/test_a.py": {"test_one"}, "tests/e2e/test_b.py": {"test_two"}}
    page = (
        "`test_one` (test_a.py), `..._one`, `test_two` (test_a.py), `test_three`, `..._four`, tests/test_b.py, "
        "tests/e2e/test_b.py\n"
    )

    assert sorted(missing(page, tests)) == ["..._four", "test_three", "test_two in test_a.py", "tests/test_b.py"]
