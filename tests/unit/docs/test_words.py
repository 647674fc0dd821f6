"""Plain English: the words of tests/data/words.toml are not used in any text for people.

In Markdown code doesn't count, in Python every string with a space in it does: messages, help, docstrings.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import DATA, ROOT

#: What is read. docs/reference/cli.md is every command's help.
CHECKED = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs", "examples"),
    *("schemas", "producer", "worker", "sandbox", "cli"),
)
#: Pages generated from the sources of a folder: they are checked with it.
MADE_FROM = {
    "docs/reference/cli.md": "cli",
    "docs/reference/metrics.md": "worker",
    "docs/reference/settings.md": "worker",
}

WORDS = {
    re.compile(r"\b(?:" + pattern.replace(" ", r"\s+") + r")\b", re.IGNORECASE): instead
    for pattern, instead in tomllib.loads((DATA / "words.toml").read_text())["words"].items()
}
NEWLINE = "\n"
#: Fenced blocks, indented blocks, code between backticks, links' targets, and HTML.
CODE = re.compile(r"^```.*?^```|^    .*?$|``.+?``|`[^`]+`|\]\([^)]*\)|<[^>]+>", re.MULTILINE | re.DOTALL)


def prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """(First line, text) of a page, its code blanked."""
    yield 1, CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """(First line, text) of each string that has a space in it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"`[^`]+`", lambda found: re.sub(r"[^\n]", " ", found[0]), node.value)


def listed_words(path: Path, name: str) -> list[str]:
    """`file:line: word; write X` for each listed word in a file."""
    prose = prose_of_python if path.suffix == ".py" else prose_of_markdown
    return [
        f"{name}:{first + text[: found.start()].count(NEWLINE)}: {' '.join(found[0].split())}; write: {instead}"
        for first, text in prose(path.read_text())
        for pattern, instead in WORDS.items()
        for found in pattern.finditer(text)
    ]


def files(root: str) -> list[Path]:
    """The Markdown and Python files of a root, or the root itself where it is a file."""
    top = ROOT / root
    return [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.suffix in {".md", ".py"})


@pytest.mark.parametrize("root", CHECKED)
def test_no_listed_word_is_used(root: str) -> None:
    """The message says what to write instead."""
    found = [
        line
        for path in files(root)
        if MADE_FROM.get(name := str(path.relative_to(ROOT)), root) in CHECKED
        for line in listed_words(path, name)
    ]
    assert found == [], "\n" + "\n".join(found)


PLANTED_PAGE = """# A page

The worker `mended` it, and the job is
in hand.

```python
mended = True
```
"""
PLANTED_MODULE = '''"""Take jobs.

The guard is off.
"""

MENDED = {"mended": f"{MENDED} jobs were mended"}
'''


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("page.md", PLANTED_PAGE, ["page.md:4: in hand; write: in flight, reserved"]),
        (
            "module.py",
            PLANTED_MODULE,
            [
                "module.py:3: guard; write: circuit breaker (dead-letter circuit breaker), or check",
                "module.py:6: mended; write: fix",
            ],
        ),
    ],
)
def test_a_planted_word_is_found(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    """The check itself: across line ends, not in code, with file and line."""
    planted = tmp_path / name
    planted.write_text(text)
    assert listed_words(planted, name) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a take of jobs",
        "the take,",
        "their hold\nran out",
        "which is none",
        "It ends at once",
        "let a paused type go on",
    ],
)
def test_a_phrase_is_found(tmp_path: Path, text: str) -> None:
    """Of words that are listed only in phrases."""
    page = tmp_path / "page.md"
    page.write_text(text)
    assert len(listed_words(page, "page.md")) == 1


def test_ordinary_senses_pass(tmp_path: Path) -> None:
    """Words that are listed only in a phrase are allowed otherwise."""
    page = tmp_path / "page.md"
    page.write_text("Workers take jobs and hold them. The rest waits. It takes two requests at once, none is lost.\n")
    assert listed_words(page, "page.md") == []
