"""`birdfeed price`: what events would cost, by the same code the workers run."""

import sys
from pathlib import Path
from typing import Any

import orjson
from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.receipt import explain as arithmetic
from birdfeed_worker.pricing.price.record import price_line, price_record
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of, only_book

from birdfeed_cli.common.console import OK, PARTLY, USAGE, err, fail


def run_price(book: Path | None, *, explain: bool) -> int:
    """Read events from stdin, write a price for each. Exit code 1 if a line is no event."""
    try:
        books = book_source_of(WorkerSettings.load()).current() if book is None else only_book(book)
    except BirdfeedError as error:
        return fail(str(error), USAGE)
    bad = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            said = _explained(orjson.loads(line), books) if explain else _priced(orjson.loads(line), books)
        except (orjson.JSONDecodeError, BirdfeedError) as error:
            bad += 1
            reason = f"not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
            err.print(f"birdfeed: line {number}: {reason}", style="red", markup=False, soft_wrap=True)
            # One line out for each line in, so that machines can pair them.
            said = "" if explain else orjson.dumps({"error": reason}).decode()
        print(said)
    return PARTLY if bad else OK


def _priced(record: Any, books: Books) -> str:
    return orjson.dumps(price_line(record, books)).decode()


def _explained(record: Any, books: Books) -> str:
    event, usage, price = price_record(record, books)
    return "\n".join([*arithmetic(price, usage, event), ""])
