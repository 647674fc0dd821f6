"""Short rows in the store: the same columns as from whole rows, also while the table is exchanged during delivery."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_schemas.datafiles import columns_of
from birdfeed_worker.operations.reprice.judge import Correction, reprice
from birdfeed_worker.operations.reprice.row_reader import Selection, StoredRows
from birdfeed_worker.pricing.book.reload import BookSource

from tests.support.existing import existing_datasource, former_datasource, shipped
from tests.support.rows import text_data
from tests.support.stored import client_of, rows_of
from tests.support.stored import store as bring_in

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
BOOK = '[[model]]\nname = "m"\nunit = "token"\nprice = {{ prompt_text = {rate}, completion_text = 2 }}\n'
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": 9}}


def events(count: int = 200) -> list[tuple[datetime, dict[str, Any]]]:
    dice = random.Random(11)
    return [(NOON + timedelta(seconds=nth), {**text_data(dice), "usage": USAGE}) for nth in range(count)]


@pytest.mark.parametrize("table", ["present", "former", "template"])
def test_each_table_accepts_its_rows(store: Sandbox, table: str) -> None:
    """None is quarantined; short rows only where they are understood."""
    files = {"present": shipped, "former": former_datasource, "template": existing_datasource}
    store.replace_datasource("llm_events", files[table]())

    bring_in(store, BookSource(), "text_generation", events())

    assert store.sql("SELECT count() AS n FROM llm_events")[0]["n"] in (200, "200")


def test_short_and_whole_rows_are_equal_in_every_column(store: Sandbox) -> None:
    """In the present table: a worker that hasn't read the columns yet sends whole rows."""
    tables = []
    for short in (True, False):
        store.reset()
        rows = rows_of(BookSource(), "text_generation", events(), NOON, short=short)
        with client_of(store) as client:
            answer = client.append("llm_events", client.encode(rows))
        assert (answer.successful, answer.quarantined) == (200, 0)
        names = ", ".join(column.name for column in columns_of("llm_events") if column.name != "event_id")
        tables.append(store.sql(f"SELECT {names} FROM llm_events ORDER BY occurred_at"))

    assert tables[0] == tables[1]


@pytest.mark.parametrize("table", ["present", "former"])
def test_rows_of_both_tables_are_repriced(store: Sandbox, tmp_path: Path, table: str) -> None:
    """Read back whole, with the columns that only the former table has, and accepted again by their table."""
    if table == "former":
        store.replace_datasource("llm_events", former_datasource())
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(BOOK.format(rate=1))
    new.write_text(BOOK.format(rate=3))
    mine = [(NOON, {"model": "m", "usage": USAGE, "request_id": "r", "response_id": "x"})]
    bring_in(store, BookSource(old), "text_generation", mine, enriched_at=NOON)
    before = store.sql("SELECT * FROM llm_events FINAL")[0]

    with client_of(store) as client:
        stored = StoredRows(client, "llm_events", Selection(since=NOON - timedelta(1), until=NOON + timedelta(1)))
        stored.check()
        [[row]] = stored.pages(stored.hours())
        judged = reprice(row, BookSource(new).current(), NOON + timedelta(hours=1))
        assert isinstance(judged, Correction)
        answer = client.append("llm_events", client.encode([msgspec.json.encode(judged.row)]))

    [after] = store.sql("SELECT * FROM llm_events FINAL")
    assert (answer.successful, answer.quarantined) == (1, 0)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"cost", "price_book", "price_rates", "enriched_at"}
