"""The blocks of Python and shell in the documentation, and what a shell block calls."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.repository import DOCS, ROOT

#: The first words of shell lines in the docs. An indented block that doesn't begin with one of them is not shell.
PROGRAMS = frozenset(
    {
        *("birdfeed", "make", "pip", "python", "git", "tb", "curl"),
        *(".", "cd", "cp", "echo", "export", "install"),
        *("apt-get", "systemctl", "docker", "kubectl"),
    }
)
#: Pages generated from the code, which has its own tests.
MADE = frozenset({"docs/reference/cli.md", "docs/reference/json.md"})
#: The reason why no test runs the block below.
NOT_RUN = re.compile(r"<!-- not run in tests: (.+?) -->\s*\Z")
#: The programs that are replaced (stand_ins.py) when the block below is run, and why.
STAND_INS = re.compile(r"<!-- run in tests with stand-ins for ([\w, -]+): .+? -->\s*\Z")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$|(?:(?<=\n\n)|\A)((?:    [^\n]*\n|\n(?=    \S))+)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code; `why_not` says why no test runs it, `stand_ins` which programs are replaced in its run."""

    page: str
    line: int
    language: str
    text: str
    why_not: str | None
    stand_ins: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """The blocks of Python and shell of a page's text."""
    for found in _BLOCK.finditer(text):
        fenced, indented = found[2], found[3]
        code = fenced if fenced is not None else re.sub(r"^    ", "", indented, flags=re.MULTILINE)
        language = {"python": "python", "sh": "sh"}.get(found[1] or "", "")
        if indented is not None and _begins(code) in PROGRAMS:
            language = "sh"
        if language:
            above = text[: found.start()]
            marked, replaced = NOT_RUN.search(above), STAND_INS.search(above)
            yield Block(
                page=page,
                line=above.count("\n") + 1,
                language=language,
                text=code,
                why_not=marked[1] if marked else None,
                stand_ins=tuple(replaced[1].split(", ")) if replaced else (),
            )


def _begins(code: str) -> str:
    first = next((line for line in code.splitlines() if line.strip() and not line.startswith("#")), "")
    return program_of(first.split() or [""])


def program_of(words: Sequence[str]) -> str:
    """The program that words call: its name without its folder."""
    return words[0] if words[0] == "." else words[0].rsplit("/", 1)[-1]


def all_blocks() -> list[Block]:
    found: list[Block] = []
    for path in pages():
        page = str(path.relative_to(ROOT))
        if page not in MADE:
            found += blocks_of(path.read_text(), page)
    return found


def calls_of(shell: str) -> Iterator[list[str]]:
    """The calls of a block of shell, as words, without redirections and the text of here-documents."""
    shell = re.sub(r"(<<'(\w+)'.*?\n).*?^\2$", r"\1", shell, flags=re.MULTILINE | re.DOTALL)
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        call: list[str] = []
        words = iter(lexer)
        for word in words:
            if word in {"|", "&&", ";"}:
                yield call
                call = []
            elif word in {"<", ">", ">>", "<<"}:
                next(words)
            else:
                call.append(word)
        if call:
            yield call


def complaint_about(command: Any, words: Sequence[str]) -> str | None:
    """The error of a command about its command line; None if it accepts it. The command isn't run.

    Typer has a click of its own, which it does not export: its errors are recognised by their attributes.
    """
    try:
        context = command.make_context(words[0], list(words[1:]))
        while hasattr(context.command, "resolve_command"):
            name, inner, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
            context = inner.make_context(name, rest, parent=context)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return None
