"""Receipts that went through the store: rows read back from chDB give their cost again, to the last digit."""

import random
import re
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
from tests.support.repository import DOCS as DOCS_FOLDER
from tests.support.stored import client_of, store

THEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
#: Events in one request.
BATCH = 5_000
DOCS = DOCS_FOLDER / "how-to" / "prices.md"
STATUSES = {"priced", "estimated", "partial", "unpriced", "no_usage", "cache_hit", "reported"}


class Dice(random.Random):
    """Events of every kind, with the counts and amounts that doubles get wrong."""

    def count(self) -> int:
        return self.choice((0, 1, self.randrange(10_000), self.randrange(2**32), self.randrange(2**60)))

    def seconds(self) -> object:
        return self.choice((None, 0, self.random() * 1e9, 1 / 3, "5.0416666666666666666667", 17, 1e-300))

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
        make = self.text if event_type == "text_generation" else self.image
        for _ in range(number):
            yield THEN + timedelta(seconds=self.randrange(36_000)), make()


def sql_of_the_docs(datasource: str) -> str:
    """What docs/how-to/prices.md tells analysts to run: rows whose receipt doesn't give their cost."""
    found = [sql for sql in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL) if datasource in sql]
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(100_000, id="a-hundred-thousand"),
        pytest.param(1_000_000, id="a-million", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
def test_rows_read_back_recompute_exactly(sandbox: Sandbox, tmp_path: Path, rows: int) -> None:
    """Random rows, written by the real row builder, read back through the SQL API: each gives its own cost."""
    path = tmp_path / "prices.toml"
    path.write_text(RECEIPT_BOOK)
    books, dice = BookSource(path), Dice(rows)
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
