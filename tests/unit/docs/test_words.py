"""Plain English: the words of tests/data/words.toml are not used in any text for people.

In Markdown code doesn't count, in Python every string with a space in it does: messages, help, docstrings. Of tests and
scripts it is the docstrings, the comments and the names of tests, as their strings are data.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.repository import DATA, ROOT

#: What is read. docs/reference/cli.md is every command's help.
CHECKED = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs", "examples"),
    *("schemas", "producer", "worker", "sandbox", "cli"),
)
#: Tests and scripts.
CHECKED_WITHOUT_STRINGS = ("tests", "bench", ".ci", "docs/scripts")
#: Pages generated from the sources of a folder: they are checked with it.
MADE_FROM = {
    "docs/reference/cli.md": "cli",
    "docs/reference/metrics.md": "worker",
    "docs/reference/settings.md": "worker",
}

Prose = Callable[[str], Iterator[tuple[int, str]]]
Words = Mapping[re.Pattern[str], str]


def patterns(table: str) -> Words:
    """The patterns of a table of words.toml, and what to write instead."""
    return {
        re.compile(r"\b(?:" + pattern.replace(" ", r"\s+") + r")\b", re.IGNORECASE): instead
        for pattern, instead in tomllib.loads((DATA / "words.toml").read_text())[table].items()
    }


WORDS = patterns("words")
WORDS_OF_TESTS = {**WORDS, **patterns("tests")}
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
            yield node.lineno, without_code(node.value)


def prose_of_tests(text: str) -> Iterator[tuple[int, str]]:
    """(First line, text) of each docstring, each comment, and each test's name as words."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if (docstring := ast.get_docstring(node, clean=False)) is not None:
                yield node.body[0].lineno, without_code(docstring)
            if not isinstance(node, ast.Module) and node.name.startswith("test_"):
                yield node.lineno, node.name.replace("_", " ")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], without_code(token.string)


def without_code(text: str) -> str:
    """A text with its code between backticks blanked."""
    return re.sub(r"`[^`]+`", lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def listed_words(path: Path, name: str, prose: Prose | None = None, words: Words = WORDS) -> list[str]:
    """`file:line: word; write X` for each listed word in a file."""
    prose = prose or (prose_of_python if path.suffix == ".py" else prose_of_markdown)
    return [
        f"{name}:{first + text[: found.start()].count(NEWLINE)}: {' '.join(found[0].split())}; write: {instead}"
        for first, text in prose(path.read_text())
        for pattern, instead in words.items()
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


@pytest.mark.parametrize("root", CHECKED_WITHOUT_STRINGS)
def test_no_listed_word_is_used_in_tests_and_scripts(root: str) -> None:
    """Nor one of those that are listed only for them."""
    found = [
        line
        for path in files(root)
        if path.suffix == ".py"
        for line in listed_words(path, str(path.relative_to(ROOT)), prose_of_tests, WORDS_OF_TESTS)
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


PLANTED_TEST = '''def test_nobody_is_asked():
    """The job is
    in hand.
    """
    assert ask("nobody") == "mended it"  # whoever that is
'''


def test_a_planted_word_in_a_test_is_found(tmp_path: Path) -> None:
    """In its name, its docstring and its comments, but not in its strings."""
    planted = tmp_path / "test_planted.py"
    planted.write_text(PLANTED_TEST)

    found = listed_words(planted, "t.py", prose_of_tests, WORDS_OF_TESTS)

    assert sorted(line.split(";")[0] for line in found) == ["t.py:1: nobody", "t.py:3: in hand", "t.py:5: whoever"]


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
