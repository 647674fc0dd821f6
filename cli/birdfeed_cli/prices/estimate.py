"""`birdfeed prices estimate`: what events would cost, computed by the workers' code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from birdfeed_schemas.safety.untrusted import json_text, visible
from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.record import price_line
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of, only_book

from birdfeed_cli.common.console import OK, PARTLY, fail, print_lines
from birdfeed_cli.common.files import open_input


def run_estimate(file: str, book: Path | None, *, as_json: bool) -> int:
    """Print the price of each event. Exit code 1 if a line is not an event."""

    def answer(record: Any, books: Books) -> str:
        priced = price_line(record, books)
        if as_json:
            return orjson.dumps(priced).decode()
        found = f", price of {priced['price_model']}" if priced["price_model"] else ""
        return visible(f"{priced['cost']:>16} USD  {priced['cost_status']:<9} {record['event_type']}{found}")

    return for_each_event(file, book, answer, as_json=as_json)


def for_each_event(file: str, book: Path | None, answer: Callable[[Any, Books], str], *, as_json: bool) -> int:
    """Print the answer for each line of a file. Exit code 1 if a line is not an event."""
    books = book_source_of(WorkerSettings.load()).current() if book is None else only_book(book)
    bad = 0
    with open_input(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                answered = answer(orjson.loads(line), books)
            except (orjson.JSONDecodeError, BirdfeedError) as error:
                bad += 1
                reason = f"not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
                fail(f"line {number}: {reason}", PARTLY)
                if not as_json:
                    continue
                # One output line for each input line, so that programs can pair them.
                answered = orjson.dumps({"error": reason}).decode()
            print_lines([json_text(answered)] if as_json else answered.split("\n"))
    return PARTLY if bad else OK
