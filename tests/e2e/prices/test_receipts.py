"""Receipts in the store: rows read back from chDB give the same cost, to the last digit."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.operations.reprice.row_reader import Selection, StoredRows
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.pricing.price.receipt import recompute

from tests.support.pricing.books import RECEIPT_BOOK
from tests.support.pricing.cases import DEFAULT
from tests.support.repository import DOCS as DOCS_FOLDER
from tests.support.stored import client_of, store

THEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
#: Events in one request.
BATCH = 5_000
DOCS = DOCS_FOLDER / "how-to" / "prices.md"
STATUSES = {"priced", "estimated", "partial", "unpriced", "no_usage", "cache_hit", "reported"}


class Dice(random.Random):
    """Random events of every kind, with counts and amounts that floating-point numbers get wrong."""

    def count(self) -> int:
        return self.choice((0, 1, self.randrange(10_000), self.randrange(2**32), self.randrange(2**60)))

    def seconds(self) -> object:
        return self.choice((None, 0, self.random() * 1e9, 1 / 3, "5.0416666666666666666667", 17, 1e-300))

    def beside(self) -> dict[str, Any]:
        """What is counted beside tokens, at models of genai-prices and the media book."""
        counts = {
            "server_tool_use": {"web_search_requests": self.count()},
            "num_search_queries": self.count(),
            "citation_tokens": self.count(),
            "cache_creation": {"ephemeral_1h_input_tokens": self.count(), "ephemeral_5m_input_tokens": self.count()},
            "speed": self.choice(("fast", "standard")),
            "inference_geo": self.choice(("us", "global")),
            "seconds": self.random() * 1e6,
            "pages": self.count(),
        }
        return dict(self.sample(sorted(counts.items()), 3))

    def public(self) -> dict[str, Any]:
        """A text event of a public model."""
        event = {"model": self.choice(("claude-opus-4-6", "sonar-pro", "gpt-4o", "o4-mini")), **self.common()}
        return {**event, "usage": {**event["usage"], **self.beside()}}

    def media(self) -> dict[str, Any]:
        """An image, video, speech or OCR event of a public model."""
        model = self.choice(("dall-e-3", "sora-2", "tts-1", "mistral-ocr-latest", "gpt-4o-mini-tts"))
        return {**self.image(), "model": model, "characters": self.count(), "usage": self.beside()}

    def common(self) -> dict[str, Any]:
        return {
            "service_tier": self.choice((None, None, "batch", "odd", "nobody-knows")),
            "cost": self.choice((*[None] * 9, "0.00000000000051", 123.456, "999999999999999.9")),
            "cache_hit": self.random() < 0.05,
            "status": self.choice(("success", "error", None)),
            "usage": {
                "prompt_tokens": self.count(),
                "completion_tokens": self.count(),
                "prompt_tokens_details": {"cached_tokens": self.count(), "audio_tokens": self.count()},
                "completion_tokens_details": {"reasoning_tokens": self.count(), "image_tokens": self.count()},
            },
        }

    def text(self) -> dict[str, Any]:
        return {"model": self.choice(("tokens", "tokens", "tokens", "picture", "x")), **self.common()}

    def image(self) -> dict[str, Any]:
        return {
            "model": self.choice(("tokens", "picture", "pixels", "film")),
            "num_images": self.choice((None, 0, 1, 7, 2**40)),
            "image_size": self.choice((None, "1024x1024", "x", "4000000000x4000000000", "1x1")),
            "quality": self.choice((None, "hd")),
            "video_seconds": self.seconds(),
            "audio_seconds": self.seconds(),
            **self.common(),
        }

    def events(self, event_type: str, number: int) -> Iterator[tuple[datetime, dict[str, Any]]]:
        kinds = (self.text, self.public) if event_type == "text_generation" else (self.image, self.media)
        for _ in range(number):
            yield THEN + timedelta(seconds=self.randrange(36_000)), self.choice(kinds)()


def sql_of_the_docs(datasource: str) -> str:
    """The query in docs/how-to/prices.md for analysts: rows whose receipt doesn't give their cost."""
    found = [sql for sql in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL) if datasource in sql]
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(50_000, id="fifty-thousand"),
        pytest.param(1_000_000, id="a-million", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_rows_read_back_recompute_exactly(sandbox: Sandbox, tmp_path: Path, rows: int) -> None:
    """Random rows of the real row builder, read back through the SQL API: each receipt gives its row's cost."""
    path = tmp_path / "prices.toml"
    path.write_text(RECEIPT_BOOK)
    books, dice = BookSource(path, fallback=DEFAULT.fallback), Dice(rows)
    statuses: Counter[str] = Counter()
    for event_type, datasource in (("text_generation", "llm_events"), ("image_generation", "image_events")):
        for _ in range(rows // 2 // BATCH):
            store(sandbox, books, event_type, dice.events(event_type, BATCH), THEN)
        with client_of(sandbox) as client:
            stored = StoredRows(client, datasource, Selection(since=THEN, until=THEN + timedelta(days=1)))
            for page in stored.pages(stored.hours()):
                for row in page:
                    assert Decimal(row["cost_exact"]) == recompute(row), row
                    statuses[row["cost_status"]] += 1

        again = sandbox.sql(sql_of_the_docs(datasource))
        assert again == [], again[:3]

    assert statuses.total() == rows
    assert statuses.keys() == STATUSES


SCRIPT = DOCS_FOLDER / "scripts" / "recompute.py"


def recomputed_by_the_script(sandbox: Sandbox, datasource: str, rows: int) -> subprocess.CompletedProcess[str]:
    """All rows of a table, hour by hour, through the script; Python runs it where it can import nothing of birdfeed."""
    found = 0
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        assert script.stdin is not None
        for minute in range(0, 600, 20):
            start = THEN + timedelta(minutes=minute)
            answer = sandbox.sql(
                f"SELECT *, toString(cost) AS cost_text FROM {datasource} FINAL "
                f"WHERE occurred_at >= '{start:%Y-%m-%d %H:%M}:00' "
                f"AND occurred_at < '{start + timedelta(minutes=20):%Y-%m-%d %H:%M}:00'"
            )
            found += len(answer)
            script.stdin.writelines(json.dumps(row) + "\n" for row in answer)
        said, wrong = script.communicate()
    assert found == rows
    return subprocess.CompletedProcess(script.args, script.returncode, said, wrong)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(4_000, id="four-thousand"),
        pytest.param(1_000_000, id="a-million", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_an_independent_script_recomputes_them(sandbox: Sandbox, tmp_path: Path, rows: int) -> None:
    """Forty lines that import nothing of birdfeed give every cost."""
    path = tmp_path / "prices.toml"
    path.write_text(RECEIPT_BOOK)
    books, dice = BookSource(path, fallback=DEFAULT.fallback), Dice(rows + 1)
    size = min(BATCH, rows // 2)
    for event_type, datasource in (("text_generation", "llm_events"), ("image_generation", "image_events")):
        for _ in range(rows // 2 // size):
            store(sandbox, books, event_type, dice.events(event_type, size), THEN)

        done = recomputed_by_the_script(sandbox, datasource, rows // 2)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_notices_a_changed_cost() -> None:
    """A change of the last digit is found."""
    row = {"event_id": "e", "price_rates": '{"prompt_text":"2.5","batch_multiplier":"0.5"}', "prompt_text_tokens": "3"}
    right, wrong = (json.dumps({**row, "cost_text": cost}) for cost in ("0.00000375", "0.000003750001"))

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT)], input=f"{right}\n{wrong}\n", capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (1, "e\n")
    imported = [line for line in SCRIPT.read_text().splitlines() if re.match(r"\s*(?:import|from) ", line)]
    assert imported == ["import json", "import sys", "from fractions import Fraction"]
