"""Data that is kept in large numbers needs little memory: lines that wait in a producer, rows in flight in a worker."""

import gc
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.stats import Counters
from birdfeed_schemas.fields import SPELLINGS
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Header, encode_event
from birdfeed_worker.model import Item
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.tiers.lookup import NoTiers

from tests.support.events import envelope, text

COUNT = 200


def kept(make: Callable[[], list[bytes]]) -> float:
    """Bytes of memory for each byte of the created objects."""
    make()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        gc.collect()  # Python keeps some thousand freed tuples for later; they are not what is kept
        return (tracemalloc.get_traced_memory()[0] - before) / sum(map(len, made))
    finally:
        tracemalloc.stop()


def tracked() -> list[bytes]:
    """Lines as track_event keeps them."""
    encoder = Encoder(Policy(), Counters())
    shape = Policy().shape(SPELLINGS["text_generation"])
    events = [encoder.encode("text_generation", text(request_id="r" * 500), shape) for _ in range(COUNT)]
    return [event[1] for event in events if event is not None]


@pytest.mark.parametrize(
    "make",
    [
        tracked,
        lambda: [encode_event(envelope(text(request_id="r" * 500))) for _ in range(COUNT)],
    ],
    ids=["tracked", "by the schemas"],
)
def test_lines_take_their_own_size(make: Callable[[], list[bytes]]) -> None:
    """Otherwise the buffer's bound in bytes would be wrong."""
    assert kept(make) < 1.3


def test_rows_take_their_own_size(tmp_path: Path) -> None:
    """A worker has thousands of them."""
    book = tmp_path / "prices.toml"
    book.write_text("")
    enricher = Enricher(BookSource(book), NoTiers(), extra_fields=frozenset(), keep_traceback=False)

    def rows() -> list[bytes]:
        header = Header(batch_id="b", event_type="text_generation", count=COUNT)
        items = [Item("j", header, b"", envelope(text())) for _ in range(COUNT)]
        enricher.enrich(registry()["text_generation"], validate("text_generation", items), datetime.now(UTC))
        return [item.row for item in items]

    assert kept(rows) < 1.3
