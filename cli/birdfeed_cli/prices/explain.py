"""`birdfeed prices explain`: show how a cost is computed, number by number."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.enrichment import Price
from birdfeed_schemas.safety.untrusted import visible
from birdfeed_worker.operations.reprice.judge import event_of, stored_usage
from birdfeed_worker.operations.reprice.row_reader import read_event_row
from birdfeed_worker.operations.reprice.run import RetryingReader
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.money import plain, to_units
from birdfeed_worker.pricing.price.receipt import explain, recompute
from birdfeed_worker.pricing.price.record import price_record
from birdfeed_worker.pricing.usage.readings import readings
from birdfeed_worker.settings import WorkerSettings

from birdfeed_cli.common.console import OK, PARTLY, fail, print_json, print_lines
from birdfeed_cli.common.store_access import open_store
from birdfeed_cli.prices.estimate import for_each_event


def run_explain(file: str, book: Path | None, *, as_json: bool) -> int:
    """Explain the price of each event in a file. Exit code 1 if a line is not an event."""

    def answer(record: Any, books: Books) -> str:
        event, usage, price = price_record(record, books)
        lines = [*map(str, readings(event.usage)), *explain(price, usage, event)]
        if as_json:
            return orjson.dumps(_described(price, lines)).decode()
        return "\n".join([*map(visible, lines), ""])

    return for_each_event(file, book, answer, as_json=as_json)


def run_explain_stored(event_id: str, *, as_json: bool) -> int:
    """Explain a stored row by its receipt. Exit code 1 if there is no row, or its numbers don't give its cost."""
    with open_store(WorkerSettings.load()) as store:
        found = (read_event_row(RetryingReader(store), table, event_id) for table in datasources())
        row = next((row for row in found if row is not None), None)
    if row is None:
        return fail(f"no row has the event id {event_id!r} in {', '.join(datasources())}", PARTLY)
    price = _price_of(row)
    raw = orjson.loads(row["usage_raw"]) if row.get("usage_raw") else None
    lines = [*map(str, readings(raw)), *explain(price, stored_usage(row), event_of(row))]
    again = recompute(row)
    if as_json:
        matches = again == price.cost
        print_json({"event_id": event_id, **_described(price, lines), "recomputed": plain(again), "matches": matches})
    else:
        print_lines(lines)
    if again != price.cost:
        return fail(
            f"the stored counts and rates give {plain(again)} USD, not the stored cost: one of them was changed",
            PARTLY,
        )
    return OK


def _price_of(row: Mapping[str, Any]) -> Price:
    return Price(
        units=to_units(Decimal(row["cost_exact"])),
        cost_status=row["cost_status"],
        price_match=row["price_match"],
        price_model=row["price_model"] or None,
        price_book=row["price_book"],
        price_source=row["price_source"],
        provider=row["provider"],
        rates_json=row["price_rates"],
    )


def _described(price: Price, lines: list[str]) -> dict[str, object]:
    return {
        "cost": plain(price.cost),
        "cost_status": price.cost_status,
        "price_model": price.price_model,
        "price_book": price.price_book,
        "rates": price.rates,
        "lines": lines,
    }
