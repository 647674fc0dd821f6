"""Code blocks of the documentation: shell is read by bash and by the commands it calls, Python is run.

RUN_BY names the tests that run blocks of shell. Other blocks say in a comment above them which programs are replaced
where they are run (tests/e2e/cli/test_pages.py), or why no test runs them.
"""

import ast
import asyncio
import inspect
import re
import subprocess
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import birdfeed
import pytest
from birdfeed.testing import Captured, capture
from birdfeed_cli.app import app
from typer.main import get_command

from tests.support.pages.blocks import (
    Block,
    all_blocks,
    blocks_of,
    calls_of,
    complaint_about,
    pages,
    program_of,
)
from tests.support.repository import ROOT

BLOCKS = all_blocks()
#: Page → the test that runs its blocks of shell.
RUN_BY = {
    "docs/how-to/runbook.md": "tests/e2e/cli/test_runbook.py",
    "docs/how-to/sdks.md": "tests/integrations/test_sdks_page.py",
    "docs/how-to/whole-apps.md": "tests/e2e/producer/test_examples.py",
    "docs/how-to/add-an-event-type.md": "tests/store/test_how_to.py",
    **dict.fromkeys(
        [
            *("README.md", "docs/tutorial/first-event.md", "docs/reference/analytics.md", "docs/how-to/prices.md"),
            *("docs/how-to/compare-invoice.md", "docs/how-to/operator.md", "docs/how-to/tinybird.md"),
            *("docs/how-to/forget.md", "docs/how-to/handler.md"),
        ],
        "tests/e2e/cli/test_pages.py",
    ),
}
#: Page → the test that runs its blocks of Python. Those of other pages are run here.
PYTHON_RUN_BY = {
    "docs/how-to/sdks.md": "tests/integrations/test_sdks_page.py",
    "docs/how-to/whole-apps.md": "tests/e2e/producer/test_examples.py",
    "docs/how-to/add-an-event-type.md": "tests/store/test_how_to.py",
}
COMMANDS = get_command(app)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def checked(block: Block) -> list[str]:
    """The faults of a block of shell, found without running it."""
    wrong = []
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    if done.returncode:
        wrong.append(done.stderr)
    for call in calls_of(block.text):
        program = program_of(call)
        if program == "birdfeed":
            complaint = complaint_about(COMMANDS, ["birdfeed", *call[1:]])
            wrong += [f"{' '.join(call)}: {complaint}"] if complaint else []
        elif program == "make":
            wrong += [f"no target {word}" for word in call[1:] if "=" not in word and word not in TARGETS]
        wrong += [f"no file {word}" for word in call if is_of_repository(word) and not (ROOT / word).exists()]
    return wrong


def is_of_repository(word: str) -> bool:
    """Whether a word names a file that the repository has."""
    return re.match(r"(?:deploy|docs|tests|requirements|bench|examples)/[\w./-]+\Z", word) is not None


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_shell_is_what_its_commands_accept(block: Block) -> None:
    """Bash parses it, every birdfeed command accepts its options, and every file and make target exists."""
    assert checked(block) == []


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("birdfeed dead lst", "No such command"),
        ("birdfeed status --nowhere", "No such option"),
        ("echo x | birdfeed send", "Missing argument"),
        ("birdfeed ledger && make nothing", "no target nothing"),
        ("kubectl apply -f deploy/nowhere.yml", "no file deploy/nowhere.yml"),
        ("birdfeed send - <<'END'\n{'\nEND\nbirdfeed report --bye model", "No such option"),
        ("export A='b", "unexpected EOF"),
    ],
)
def test_a_planted_broken_block_is_found(planted: str, complaint: str) -> None:
    """The check itself."""
    if complaint == "unexpected EOF":
        done = subprocess.run(["bash", "-n"], input=planted, capture_output=True, text=True, check=False)
        assert complaint in done.stderr
        return
    assert complaint in "".join(checked(Block("page", 1, "sh", planted, None)))


def test_blocks_are_found() -> None:
    """Fenced and indented ones, their lines and marks; not diagrams, nor code of other languages."""
    text = (
        "# A\n\n    birdfeed status\n\n    birdfeed ledger\n\nb\n\n    a ──▶ b\n\n"
        "<!-- not run in tests: needs a cluster -->\n\n    kubectl apply\n\n"
        "```python\nx = 1\n```\n\n```sql\nSELECT\n```\n"
    )
    assert [(block.line, block.language, block.why_not) for block in blocks_of(text, "p")] == [
        (3, "sh", None),
        (13, "sh", "needs a cluster"),
        (15, "python", None),
    ]


def unknown_commands(text: str) -> list[str]:
    """Commands that a page's sentences name between backticks, but that the help doesn't show."""
    wrong = []
    for named in re.findall(r"`birdfeed ((?!is down)[a-z][^`]*)`", text):
        command: Any = COMMANDS
        for word in named.split():
            if not hasattr(command, "commands") or word == "...":
                break
            command = command.commands.get(word)
            if command is None or command.hidden:
                wrong.append(named)
                break
    return wrong


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "upgrade.md"], ids=lambda path: path.name)
def test_commands_in_sentences_exist(page: Path) -> None:
    """`birdfeed prices reprice`, not `birdfeed reprice`, which only the page about upgrades may name."""
    assert unknown_commands(page.read_text()) == []


def test_a_planted_command_is_found() -> None:
    """The check itself: in a group, at the top, and for a command with an argument."""
    text = "`birdfeed dead lst`, `birdfeed reprice`, `birdfeed dead show ID`, `birdfeed dead`, `birdfeed`"

    assert unknown_commands(text) == ["dead lst", "reprice"]


def is_run(block: Block) -> bool:
    """Whether some test runs a block whole; tests/e2e/cli/test_pages.py runs those with stand-ins."""
    return block.why_not is None and (block.page in RUN_BY or block.language == "python" or bool(block.stand_ins))


def test_every_block_is_run_or_says_why_not() -> None:
    """RUN_BY names the page. Three of four are run with nothing replaced."""
    runs = [*RUN_BY.items(), *PYTHON_RUN_BY.items()]

    assert [str(block) for block in BLOCKS if not is_run(block) and block.why_not is None] == []
    assert [page for page, test in runs if Path(page).name not in (ROOT / test).read_text()] == []
    assert sum(map(is_run, BLOCKS)) >= 0.95 * len(BLOCKS)
    assert sum(is_run(block) and not block.stand_ins for block in BLOCKS) > 0.75 * len(BLOCKS)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the price book that commands name: some commands check that it exists."""
    (tmp_path / "prices.toml").touch()
    monkeypatch.chdir(tmp_path)


class Anything(SimpleNamespace):
    """An object of the program around an example: it has every attribute, and can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Anything(usage={"prompt_tokens": 3}, id="resp-1", text="answer")

    def __await__(self) -> Any:
        yield from ()
        return self


class App:
    """A program's ASGI application; runs an added middleware on one request."""

    def add_middleware(self, middleware: Any, *, context: Any) -> None:
        """As in Starlette."""
        assert inspect.isclass(middleware)
        assert context({"headers": [(b"x-request-id", b"r1")]}) == {"request_id": "r1"}


class Client:
    """A web application's test client, whose handler tracks one generation."""

    def post(self, path: str, json: dict[str, str]) -> None:
        """Answer a request."""
        birdfeed.track_event(birdfeed.EventType("text_generation"), {"model": "gpt-4o-mini", "prompt": json["prompt"]})

    async def chat(self, question: str) -> Any:
        """A provider's answer."""
        return Anything(usage={"prompt_tokens": 3}, id="resp-1", text=question)


def surroundings() -> dict[str, Any]:
    """The names that the examples use from the program around them."""

    async def generate(prompt: str) -> Any:
        return SimpleNamespace(usage={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7})

    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return {
        "answer": SimpleNamespace(model="gpt-4o-mini", usage=usage),
        "response": SimpleNamespace(usage=usage),
        "user": SimpleNamespace(id="ada"),
        "user_id": "ada",
        "milliseconds": 12.5,
        "prompt": "a cat",
        "generate": generate,
        "request_id": "r1",
        "app": App(),
        "scrub": lambda event: event,
        "client": Client(),
    }


def run(code: str, page: str) -> Captured:
    """Run an example and its functions; returns what it tracked."""
    names = surroundings()
    with capture() as events:
        compiled: CodeType = compile(code, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        awaits = compiled.co_flags & inspect.CO_COROUTINE
        asyncio.run(eval(compiled, names)) if awaits else exec(compiled, names)
        if "test_a_generation_is_tracked" in names:
            names["test_a_generation_is_tracked"](events)
        if "answer" in names and inspect.iscoroutinefunction(names["answer"]):
            assert asyncio.run(names["answer"]("why?")) == "why?"
    return events


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python" and block.page not in PYTHON_RUN_BY], ids=str
)
def test_python_runs(block: Block) -> None:
    """With the names of the program around it; the worker accepts what it tracks."""
    for event in run(block.text, str(block)):
        event.validated()


@pytest.mark.parametrize(
    "planted", ["birdfeed.track_evnt('text_generation', {})", "import birdfeed\nbirdfeed.nothing()"]
)
def test_planted_broken_python_is_found(planted: str) -> None:
    """The check itself."""
    with pytest.raises((NameError, AttributeError)):
        run(planted, "page")
