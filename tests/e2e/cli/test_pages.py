"""The docs' shell blocks, run in bash unchanged, on the servers that `birdfeed up` starts.

tests/unit/docs/test_blocks.py says which pages' blocks are run where.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.support.commands import birdfeed, clean_environment
from tests.support.pages import stand_ins
from tests.support.pages.blocks import Block, all_blocks
from tests.support.repository import ROOT
from tests.support.wait import eventually

pytestmark = pytest.mark.slow

#: A price book, and a bill as OpenAI exports it.
BOOK = """
[[model]]
name = "gpt-4.1"
provider = "openai"
unit = "token"
price = { prompt_text = 2, completion_text = 8 }
"""
COSTS = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1_760_000_000,
            "end_time": 1_760_086_400,
            "results": [
                {"object": "organization.costs.result", "amount": {"value": 1.5, "currency": "usd"}, "line_item": "m"}
            ],
        }
    ],
}
BILL = 'start_time_iso,amount_value,amount_currency,line_item\n2026-11-20T00:00:00,5.00,usd,"m, input"\n'
#: What a page's commands find in their folder.
FILES = {
    "prices.toml": BOOK,
    "old.toml": BOOK,
    "new.toml": BOOK.replace("= 2,", "= 3,"),
    "events.ndjson": '{"event_type": "text_generation", "event_data": {"model": "gpt-4.1"}}\n',
    "costs.json": json.dumps(COSTS),
    "bill.csv": BILL,
}


@dataclass
class Reader:
    """A bash that runs a page's blocks, in one folder and one environment."""

    folder: Path
    environment: dict[str, str]

    def types(self, shell: str, ends: int = 0) -> str:
        """Run a block; returns its output, once all that was sent is settled."""
        eventually(self._settled, what="nothing is under way")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shell],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == ends, f"{shell}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _settled(self) -> bool:
        done = birdfeed("ledger", "--json", environment=self.environment, folder=self.folder)
        return '"in_flight": 0' in done.stdout or not json.loads(done.stdout or "{}")

    @contextmanager
    def serves(self, shell: str, ready: Callable[[str], object]) -> Iterator[None]:
        """Run a block whose last command needs Ctrl-C, which is sent at the end; `ready` gets the output so far."""
        shown = self.folder / "shown"
        with shown.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-euc", UNTIL_STOPPED.sub(r"exec \1", shell)],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(lambda: process.poll() is not None or ready(shown.read_text()), what="it is ready")
            yield
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.wait(60)
        assert ended == 0, f"{shell}\nended with {ended}:\n{shown.read_text()}"


#: The last command of a block that runs until Ctrl-C.
UNTIL_STOPPED = re.compile(r"^((?:\.venv/bin/)?birdfeed (?:up|worker|console)\b[^\n]*)\s*\Z", re.MULTILINE)


def blocks_of(page: str) -> list[Block]:
    """A page's shell blocks that are run one after another, with nothing replaced."""
    return [
        block
        for block in all_blocks()
        if block.page == page and block.language == "sh" and not block.why_not and not block.stand_ins
    ]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader with the tutorial's `birdfeed up` running and its export lines set."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "bin").mkdir()
    # Tinybird's own command line, which is not part of birdfeed and needs an account.
    (folder / "bin" / "tb").write_text("#!/bin/sh\n")
    (folder / "bin" / "tb").chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    clean = {**clean_environment(), "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    (start,) = [block.text for block in blocks_of("docs/tutorial/first-event.md") if block.text.strip().endswith(" up")]
    process = subprocess.Popen(
        ["bash", "-c", f"exec {start}"],
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, f"it ended: {said}"
            said += line
        exported = dict(re.findall(r"export (\w+)=(\S+)", said))
        yield Reader(folder, {**clean, **exported, "TOKEN": exported["TINYBIRD_READ_TOKEN"]})
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(120) == 0


def typed(reader: Reader, page: str) -> str:
    """Run every block of a page, in order; returns their output."""
    return "\n".join(reader.types(block.text) for block in blocks_of(page) if not UNTIL_STOPPED.search(block.text))


def test_the_tutorial(reader: Reader) -> None:
    """From the first event to the replay of a dead one."""
    shown = typed(reader, "docs/tutorial/first-event.md")

    assert "openai" in shown
    assert "invalid" in shown
    assert "The ledger balances." in shown


def test_the_readme(reader: Reader) -> None:
    """Its two events and their costs."""
    shown = typed(reader, "README.md")

    assert re.search(r"gpt-image-1 +│ +\$0\.334 ", shown)
    assert re.search(r"claude-sonnet-4-5 +│ +\$0\.00435 ", shown)


@pytest.mark.parametrize(
    ("page", "shows"),
    [
        ("docs/reference/analytics.md", "claude-sonnet-4-5"),
        ("docs/how-to/operator.md", "The ledger balances."),
        ("docs/how-to/tinybird.md", "llm_events"),
        ("docs/how-to/handler.md", "ok send: its row was stored after"),
    ],
)
def test_a_page(reader: Reader, page: str, shows: str) -> None:
    """Every block of the page runs without an error."""
    assert shows in typed(reader, page)


def test_the_page_of_prices(reader: Reader) -> None:
    """With the id of a stored row, and --yes, as there is no terminal."""
    (two_events,) = [block.text for block in blocks_of("README.md") if "birdfeed send" in block.text]
    reader.types(two_events)
    event = stored_event(reader)
    shown = [
        reader.types(
            re.sub(
                r"(prices reprice .*--until \S+)", r"\1 --yes", block.text.replace("--event ID", f"--event {event}")
            ),
        )
        for block in blocks_of("docs/how-to/prices.md")
    ]

    assert "gpt-4.1" in shown[0]
    assert "prompt_text" in shown[1]


def stored_event(reader: Reader) -> str:
    """The id of a row, once one is there."""

    def rows() -> list[dict[str, str]]:
        url, token = f"{reader.environment['TINYBIRD_HOST']}/v0/sql", reader.environment["TOKEN"]
        query = {"q": "SELECT event_id FROM llm_events LIMIT 1 FORMAT JSON"}
        with httpx.Client(trust_env=False, timeout=60, headers={"Authorization": f"Bearer {token}"}) as client:
            answer = client.get(url, params=query)
        found: list[dict[str, str]] = answer.raise_for_status().json()["data"]
        return found

    return eventually(rows, what="a row is stored")[0]["event_id"]


def test_the_page_of_invoices(reader: Reader) -> None:
    """No event of this bill is stored: each command says so and exits with 1."""
    (block,) = blocks_of("docs/how-to/compare-invoice.md")
    shown = [reader.types(line, ends=1) for line in block.text.splitlines()]

    assert "billed 1.5 USD, booked 0 USD" in shown[0]
    assert '"first_day": "2026-11-20"' in shown[2]


def test_the_page_of_erasing(reader: Reader) -> None:
    """With --yes, as there is no terminal; a row in Tinybird remains to be deleted, so it exits with 1."""
    (block,) = blocks_of("docs/how-to/forget.md")
    send = """echo '{"event_type":"text_generation","event_data":{"model":"openai","user":"ann@example.com"}}'"""
    reader.types(f"{send} | birdfeed send -")
    shown = reader.types(re.sub(r"(ann@example\.com +)(?=# shows)", r"\1 --yes ", block.text), ends=1)

    assert "1 row" in shown


def test_the_worker_of_the_readme(reader: Reader) -> None:
    """With this system's addresses: two more workers, until Ctrl-C."""
    (block,) = [
        block for block in blocks_of("README.md") if UNTIL_STOPPED.search(block.text) and "export" in block.text
    ]
    shell = re.sub(r"export (\w+)=\S+", lambda found: f"export {found[1]}={reader.environment[found[1]]}", block.text)
    before = workers(reader)

    with reader.serves(shell, ready=lambda _: workers(reader) == before + 2):
        pass

    assert before == 2


def workers(reader: Reader) -> int:
    """The running workers."""
    status = birdfeed("status", "--json", environment=reader.environment, folder=reader.folder)
    return len(json.loads(status.stdout)["workers"])


WITH_STAND_INS = [block for block in all_blocks() if block.stand_ins]
#: Folders outside the reader's own that the pages name, and which are in it here.
ELSEWHERE = re.compile(r"(?<!\S)/(opt|etc|var|backup)/")


@pytest.fixture
def other_machine(reader: Reader, tmp_path: Path) -> Reader:
    """A folder with the release and the repository's files, and none of the programs that need another machine."""
    for name in ("deploy", "docs", "requirements", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for folder in (
        "dist",
        "etc/systemd/system",
        "var/lib/redis/appendonlydir",
        "backup/redis/appendonlydir",
        ".venv/bin",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for release in (tmp_path, tmp_path / "dist"):
        (release / "birdfeed-0.1.0-py3-none-any.whl").touch()
        (release / "birdfeed-0.1.0-constraints.txt").touch()
    return replace(reader, folder=tmp_path)


def with_stand_ins(reader: Reader, block: Block) -> tuple[Reader, str]:
    """Run a block with the programs that it names replaced; returns the output."""
    programs = stand_ins.install(block.stand_ins, reader.folder / "stand-ins")
    for name in block.stand_ins:
        own = reader.folder / ".venv" / "bin" / name
        own.unlink(missing_ok=True)
        own.symlink_to(programs / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{programs}{os.pathsep}{reader.environment['PATH']}"
    environment = {**reader.environment, "PATH": path, "BIRDFEED_CONSOLE_PORT": str(port)}
    return replace(reader, environment=environment), ELSEWHERE.sub(rf"{reader.folder}/\1/", block.text)


@pytest.mark.parametrize("page", sorted({block.page for block in WITH_STAND_INS}))
def test_blocks_for_another_machine(other_machine: Reader, page: str) -> None:
    """In order; each stand-in checks its arguments, all other programs are real."""
    for block in [block for block in WITH_STAND_INS if block.page == page]:
        reader, shell = with_stand_ins(other_machine, block)
        if UNTIL_STOPPED.search(shell):
            with reader.serves(shell, ready=lambda shown: "http://" in shown):
                pass
        else:
            reader.types(shell)


@pytest.mark.parametrize(
    ("planted", "programs", "complaint"),
    [
        ("pip install './birdfeed-9.9.9-py3-none-any.whl[worker]'", ["pip"], "no wheel"),
        ("pip install 'birdfeed[wroker]'", ["pip"], "no extra"),
        ("systemctl enable --now birdfeed-worker", ["systemctl"], "has not read a unit"),
        ("kubectl apply -f deploy/kubernetes/worker.yml", ["kubectl"], "no secret birdfeed"),
        ("make demmo", ["make"], "No rule to make target"),
        ("curl -s http://127.0.0.1:9808/ready", ["curl"], "nothing answers"),
        (".venv/bin/pytest tests/chaos -m soka -s", ["pytest"], "no test is marked soka"),
    ],
)
def test_a_planted_broken_block_for_another_machine(
    other_machine: Reader, planted: str, programs: list[str], complaint: str
) -> None:
    """The check itself: a stand-in refuses it."""
    reader, shell = with_stand_ins(other_machine, Block("page", 1, "sh", planted, None, tuple(programs)))

    with pytest.raises(AssertionError, match=complaint):
        reader.types(shell)
