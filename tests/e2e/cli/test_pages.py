"""The pages' blocks of shell, typed into bash as they stand, on what `birdfeed up` starts.

tests/unit/docs/test_blocks.py says which pages' blocks are run where.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.commands import birdfeed, clean_environment
from tests.support.pages.blocks import Block, all_blocks
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
    """Someone who types what a page says, in one folder and one environment."""

    folder: Path
    environment: dict[str, str]

    def types(self, shell: str, ends: int = 0) -> str:
        """Type a block; what it shows. A reader waits until what was sent is settled."""
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


def blocks_of(page: str) -> list[Block]:
    return [block for block in all_blocks() if block.page == page and block.language == "sh" and not block.why_not]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One who typed the tutorial's `birdfeed up`, and pasted its export lines into another terminal."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / ".venv").symlink_to(sys.prefix)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "bin").mkdir()
    # Tinybird's own command line, which is not ours and would need an account.
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
    """Every block of a page, in its order; what all of them show."""
    return "\n".join(reader.types(block.text) for block in blocks_of(page) if not block.text.strip().endswith(" up"))


def test_the_tutorial(reader: Reader) -> None:
    """From the first event to the replay of a dead one."""
    shown = typed(reader, "docs/tutorial/first-event.md")

    assert "openai" in shown
    assert "invalid" in shown
    assert "The ledger balances." in shown


def test_the_readme(reader: Reader) -> None:
    """Its two events, and what they cost."""
    shown = typed(reader, "README.md")

    assert re.search(r"gpt-image-1 +│ +\$0\.334 ", shown)
    assert re.search(r"claude-sonnet-4-5 +│ +\$0\.00435 ", shown)


@pytest.mark.parametrize(
    ("page", "shows"),
    [
        ("docs/reference/analytics.md", "claude-sonnet-4-5"),
        ("docs/how-to/operator.md", "The ledger balances."),
        ("docs/how-to/tinybird.md", "llm_events"),
    ],
)
def test_a_page(reader: Reader, page: str, shows: str) -> None:
    """Every command does what the page says, without an error."""
    assert shows in typed(reader, page)


def test_the_page_of_prices(reader: Reader) -> None:
    """With the id of a stored row; whoever has no terminal says --yes."""
    reader.types(blocks_of("README.md")[-1].text)
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
    """Nothing of this bill was booked, which each command says, and ends with 1."""
    (block,) = blocks_of("docs/how-to/compare-invoice.md")
    shown = [reader.types(line, ends=1) for line in block.text.splitlines()]

    assert "billed 1.5 USD, booked 0 USD" in shown[0]
    assert '"first_day": "2026-11-20"' in shown[2]


def test_the_page_of_erasing(reader: Reader) -> None:
    """Whoever has no terminal to be asked on says --yes; a row in Tinybird is left to be deleted, so it ends with 1."""
    (block,) = blocks_of("docs/how-to/forget.md")
    send = """echo '{"event_type":"text_generation","event_data":{"model":"openai","user":"ann@example.com"}}'"""
    reader.types(f"{send} | birdfeed send -")
    shown = reader.types(re.sub(r"(ann@example\.com +)(?=# shows)", r"\1 --yes ", block.text), ends=1)

    assert "1 rows" in shown
