"""Rows are cut into requests within the limits."""

from collections.abc import Sequence
from datetime import UTC, datetime

from birdfeed_worker.model import Item
from birdfeed_worker.pipeline.batch import Batcher

from tests.support.worker.writing import items


def cut(made: Sequence[Item], rows: int = 1000, size: int = 10**9) -> list[int]:
    """How many rows each request has; each item is in one of them."""
    batcher = Batcher(rows, size)
    parts = [*batcher.add(made[: len(made) // 2]), *batcher.add(made[len(made) // 2 :]), *batcher.rest()]
    assert sorted(item.event_id for part in parts for item in part) == sorted(item.event_id for item in made)
    assert list(batcher.rest()) == []
    for part in parts:
        assert (
            len({(item.envelope.occurred_at.year, item.envelope.occurred_at.month) for item in part if item.envelope})
            <= 12
        )
    return [len(part) for part in parts]


def test_requests_are_cut_by_rows_bytes_and_months() -> None:
    """No request passes a limit, and none has rows of more than 12 monthly partitions."""
    assert cut(items(10), rows=4) == [4, 4, 2]
    row = len(items(1)[0].row) + 1
    assert cut(items(7), size=3 * row) == [3, 3, 1]
    assert cut(items(3), size=1) == [1, 1, 1]
    months = [datetime(2024 + month // 12, month % 12 + 1, 3, tzinfo=UTC) for month in range(30)]
    assert cut([item for when in months for item in items(2, when)][::-1]) == [24, 24, 12]
    assert cut([item for when in months * 2 for item in items(1, when)]) == [24, 24, 12]
    assert cut([item for when in months for item in items(2, when)], rows=5) == [5] * 12


def test_the_month_of_the_row_that_opens_a_request_counts() -> None:
    """After a cut by rows, the month of its first row is one of the next request's twelve."""
    months = [datetime(2024 + month // 12, month % 12 + 1, 3, tzinfo=UTC) for month in range(14)]

    assert cut([*items(20, months[0]), *(item for when in months[1:] for item in items(1, when))], rows=20) == [
        20,
        12,
        1,
    ]
