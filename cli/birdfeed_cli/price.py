"""`birdfeed price`: what events would cost, by the same code the workers run."""

import sys
from pathlib import Path

import orjson
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings

from birdfeed_cli.console import OK, PARTLY, USAGE, err, fail


def run_price(book: Path | None, *, explain: bool) -> int:
    """Read events from stdin, write a price for each. Exit code 1 if a line could not be priced for its form."""
    from birdfeed_worker.price_line import explain_line, price_line
    from birdfeed_worker.wire_pricing import books_of

    try:
        settings = WorkerSettings.load()
        if book is not None:
            settings = settings.model_copy(update={"price_book": book, "shipped_book": False})
        books = books_of(settings)
    except (ConfigurationError, ValueError, OSError) as error:
        return fail(str(error), USAGE)
    bad = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
            if explain:
                print("\n".join(explain_line(record, books)), end="\n\n")
            else:
                sys.stdout.buffer.write(orjson.dumps(price_line(record, books), option=orjson.OPT_APPEND_NEWLINE))
        except ValueError as error:
            bad += 1
            err.print(f"birdfeed: line {number}: {error}", style="red", markup=False, soft_wrap=True)
            if not explain:
                # One line out for each line in, so that machines can pair them.
                sys.stdout.buffer.write(orjson.dumps({"error": str(error)}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    return PARTLY if bad else OK
