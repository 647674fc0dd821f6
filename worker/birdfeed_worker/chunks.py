"""Split a long iterable into parts of bounded size."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(values: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """itertools.batched, which the standard library has since Python 3.12."""
    iterator = iter(values)
    while batch := tuple(islice(iterator, size)):
        yield batch


def bounded(values: Iterable[T], weight: Callable[[T], int], most: int, count: int | None = None) -> Iterator[list[T]]:
    """Parts with a total weight of at most `most` and at most `count` values; a heavier value is a part of its own."""
    part: list[T] = []
    total = 0
    for value in values:
        heavy = weight(value)
        if part and (total + heavy > most or len(part) == count):
            yield part
            part, total = [], 0
        part.append(value)
        total += heavy
    if part:
        yield part
