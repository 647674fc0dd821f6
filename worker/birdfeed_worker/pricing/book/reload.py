"""The current books, and their reload: the operator's file may change while a worker runs."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from birdfeed_worker.operator_files import file_stamp
from birdfeed_worker.pricing.book.book import Books, Fallback, PriceBook, PriceBookError, load, media_book

log: Final = logging.getLogger(__name__)

#: Seconds between two checks of the file's date.
CHECK_EVERY: Final = 1.0


class BookSource:
    """The books in which prices are looked up: the operator's file, the shipped book, the fallback.

    `current()` checks the file at most once a second and reads it when it has changed. If it then can't be used, the
    books stay as they were: `error` says what is wrong until it is fixed, and the log says it once.

    Args:
        path: The operator's own book, or None.
        clock: Returns monotonic seconds.
        fallback: Prices of text models that no book has, or None.

    Raises:
        PriceBookError: The operator's file can't be used at the start, when there are no earlier books to keep.
    """

    def __init__(
        self,
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        fallback: Fallback | None = None,
    ) -> None:
        self.path = path
        self.error: PriceBookError | None = None
        self._clock = clock
        self._fallback = fallback
        self._shipped = load()
        self._lock = threading.Lock()
        self._seen = None if path is None else file_stamp(path)
        self._books = self._made_of(load(path) if path is not None else None)
        self._next_look = clock() + CHECK_EVERY

    def current(self) -> Books:
        """The current books."""
        if self.path is not None and self._clock() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = self._clock() + CHECK_EVERY
                if file_stamp(self.path) != self._seen:
                    self._read()
            finally:
                self._lock.release()
        return self._books

    def _read(self) -> None:
        assert self.path is not None
        self._seen = file_stamp(self.path)
        try:
            books = self._made_of(load(self.path))
        except PriceBookError as error:
            self.error = error
            first, *more = str(error).splitlines()
            rest = f" (and {len(more)} more; `birdfeed prices check` lists them all)" if more else ""
            log.error("the price book is invalid; the previous one stays in use: %s%s", first, rest)
            return
        self.error = None
        if books.layers[0].hash != self._books.layers[0].hash:
            log.info("price book %s is in use: %s", books.layers[0].hash, self.path)
            self._books = books

    def _made_of(self, operator: PriceBook | None) -> Books:
        layers = (self._shipped,) if operator is None else (operator, self._shipped)
        return Books(layers, self._fallback, None if self._fallback is None else media_book)
