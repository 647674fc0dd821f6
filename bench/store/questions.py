"""The questions of bench/store, as SQL."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from birdfeed_worker.chunks import batched
from birdfeed_worker.tinybird.lookup import OURS, TEMPLATES, chunks, written_sql

from bench.store.rows import START

#: How an event is counted once, on a table that may hold it twice. `{table}`, `{where}`: filled in.
FORMS: Final = {
    "not at all (wrong)": "SELECT occurred_at, tier, cost FROM {table} WHERE {where}",
    "FINAL": "SELECT occurred_at, tier, cost FROM {table} FINAL WHERE {where}",
    "LIMIT BY": (
        "SELECT occurred_at, tier, cost FROM {table} WHERE {where} "
        "ORDER BY event_id, enriched_at DESC LIMIT 1 BY event_id"
    ),
    "argMax": (
        "SELECT tupleElement(last, 1) AS occurred_at, tupleElement(last, 2) AS tier, tupleElement(last, 3) AS cost "
        "FROM (SELECT argMax((occurred_at, tier, cost), enriched_at) AS last "
        "FROM {table} WHERE {where} GROUP BY event_id)"
    ),
    "read twice": (
        "SELECT occurred_at, tier, cost FROM {table} WHERE {where} AND (event_id, enriched_at) IN "
        "(SELECT event_id, max(enriched_at) FROM {table} WHERE {where} GROUP BY event_id)"
    ),
}
#: The llm_events of Tinybird's LLM template, where ids are asked for by `id` and `timestamp`.
EXISTING: Final = "existing"
#: The ways to query ids: as verify.py does, or plainly.
VERIFY: Final = ("verify.py", "whole ids")


def aggregations(tables: Collection[str], days: int) -> Iterator[dict[str, Any]]:
    """Cost by day and tier, over the last 7 days and over all; of one model."""
    for over, first in ((f"7 of {days} days", max(0, days - 7)), (f"{days} days", 0)):
        where = f"occurred_at >= fromUnixTimestamp64Milli(toInt64({START + first * 86_400_000}), 'UTC')"
        for table in tables:
            for form, rows_sql in FORMS.items():
                sql = (
                    "SELECT toDate(occurred_at, 'Europe/Berlin') AS day, tier, count() AS requests, sum(cost) AS cost "
                    f"FROM ({rows_sql.format(table=table, where=where)}) GROUP BY day, tier ORDER BY day, tier"
                )
                yield {"table": table, "form": form, "over": over, "queries": [sql]}
    for table in tables:
        sql = f"SELECT tier, sum(cost) AS cost FROM {table} FINAL WHERE model = 'gemini' GROUP BY tier ORDER BY tier"
        yield {"table": table, "form": "FINAL, one model of 20", "over": f"{days} days", "queries": [sql]}


def ids_sql(table: str, rows: int, step: int) -> dict[str, str]:
    """SELECTs of 10,000 event_ids with their times (epoch ms): where the ids are in the table → SQL."""
    day = 86_400_000 // step
    picked = {
        "neighbours": f"occurred_at >= fromUnixTimestamp64Milli(toInt64({START + (rows - 30_000) * step}), 'UTC')",
        "a day": (
            f"occurred_at >= fromUnixTimestamp64Milli(toInt64({START + (rows - day) * step}), 'UTC') "
            f"AND cityHash64(event_id) % {max(1, day // 10_500)} = 0"
        ),
        "everywhere": f"cityHash64(event_id) % {max(1, rows // 10_500)} = 0",
    }
    return {
        over: f"SELECT DISTINCT event_id, toUnixTimestamp64Milli(occurred_at) AS ms FROM {table} WHERE {where} "
        "ORDER BY ms LIMIT 10000"
        for over, where in picked.items()
    }


def verifications(table: str, ids: Sequence[Sequence[str]], form: str) -> Iterator[str]:
    """The queries that find 10,000 ids. `ids`: event_id and epoch ms, in order of time."""
    events = [(event_id, datetime.fromtimestamp(int(ms) / 1000, UTC)) for event_id, ms in ids]
    if form == "whole ids":  # 10,000 of them don't fit a query's 256 kB
        for part in batched(events, 4_000):
            listed = ",".join(f"'{event_id}'" for event_id, _ in part)
            yield f"SELECT DISTINCT event_id FROM {table} WHERE event_id IN ({listed})"
        return
    for chunk in chunks(events):
        if table == EXISTING:
            yield written_sql(table, TEMPLATES, chunk, *TEMPLATES.windows[form == "the second window"])
        else:
            yield written_sql(table, OURS, chunk, *OURS.windows[0])
