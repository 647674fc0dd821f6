"""Batch: group rows into requests as they come, limited in rows, bytes and months."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from birdfeed_worker.model import Item

#: Tinybird refuses an insert that touches more monthly partitions than this.
MAX_PARTITIONS: Final = 12

_Month: TypeAlias = tuple[int, int]


class Batcher:
    """Groups rows into requests, and keeps those that don't fill a request yet. No effects outside.

    Args:
        rows: Rows of a request at most.
        size: Bytes of a request at most, before compression; a larger row is a request of its own.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._rows = rows
        self._size = size
        self._open: list[Item] = []
        self._bytes = 0
        self._months: set[_Month] = set()
        self._overflow: list[Item] = []  # rows of a thirteenth and further months

    def add(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Add rows; yields the requests that they fill."""
        items = list(items)
        if self._take_all(items):
            return
        for item in items:
            month = _month(item)
            if month not in self._months:
                if len(self._months) >= MAX_PARTITIONS:
                    # Don't start a new request here: alternating months would make one for every row.
                    self._overflow.append(item)
                    continue
                self._months.add(month)
            size = len(item.row) + 1
            if self._open and (len(self._open) >= self._rows or self._bytes + size > self._size):
                yield self._full()
                self._months.add(month)
            self._open.append(item)
            self._bytes += size

    def _take_all(self, items: Sequence[Item]) -> bool:
        """Add all rows to the open request if they fit and are all of one month, as they nearly always are."""
        times = [item.envelope.occurred_at for item in items if item.envelope is not None]
        if not times:
            return False
        first, last = min(times), max(times)
        month = first.year, first.month
        size = sum([len(item.row) for item in items]) + len(items)
        if (
            month != (last.year, last.month)
            or (month not in self._months and len(self._months) >= MAX_PARTITIONS)
            or len(self._open) + len(items) > self._rows
            or self._bytes + size > self._size
        ):
            return False
        self._open += items
        self._bytes += size
        self._months.add(month)
        return True

    def rest(self) -> Iterator[list[Item]]:
        """The requests for what is left."""
        while self._open:
            yield self._full()
            overflow, self._overflow = sorted(self._overflow, key=_month), []
            yield from self.add(overflow)

    def _full(self) -> list[Item]:
        request, self._open, self._bytes = self._open, [], 0
        self._months.clear()
        return request


def halves(part: Sequence[Item]) -> list[Sequence[Item]]:
    """Two halves."""
    middle = len(part) // 2
    return [part[:middle], part[middle:]]


def _month(item: Item) -> _Month:
    assert item.envelope is not None
    when = item.envelope.occurred_at
    return when.year, when.month
