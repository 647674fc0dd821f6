"""The questions of bench/store.py, as SQL."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from bench.store_rows import START

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
        "FROM (SELECT argMax((occurred_at, tier, cost), enriched_at) AS last FROM {table} WHERE {where} GROUP BY event_id)"
    ),
    "read twice": (
        "SELECT occurred_at, tier, cost FROM {table} WHERE {where} AND (event_id, enriched_at) IN "
        "(SELECT event_id, max(enriched_at) FROM {table} WHERE {where} GROUP BY event_id)"
    ),
}
#: How ids are asked for. `time`: by occurred_at alone; `time and id`: by the ids' own first and last beside.
VERIFY: Final = ("ids alone", "ids and time", "ids and time, by hour")


def aggregations(tables: Collection[str], rows: int, days: int) -> Iterator[dict[str, Any]]:
    """Cost by day and tier, over the last 7 days and over all."""
    for over, first in ((f"7 of {days} days", max(0, days - 7)), (f"{days} days", 0)):
        where = f"occurred_at >= fromUnixTimestamp64Milli(toInt64({START + first * 86_400_000}), 'UTC')"
        for table in tables:
            for form, rows_sql in FORMS.items():
                sql = (
                    "SELECT toDate(occurred_at, 'Europe/Berlin') AS day, tier, count() AS requests, sum(cost) AS cost "
                    f"FROM ({rows_sql.format(table=table, where=where)}) GROUP BY day, tier ORDER BY day, tier"
                )
                yield {"table": table, "form": form, "over": over, "queries": [sql]}


def ids_sql(table: str, rows: int, step: int) -> dict[str, str]:
    """SELECTs of 10,000 event_ids with their times (epoch ms): where they lie → SQL."""
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
    for first in range(0, len(ids), 4_000):
        chunk = ids[first : first + 4_000]
        listed = ",".join(f"'{event_id}'" for event_id, _ in chunk)
        low, high = int(chunk[0][1]) - 1000, int(chunk[-1][1]) + 1000
        between = (
            f"occurred_at BETWEEN fromUnixTimestamp64Milli(toInt64({low}), 'UTC') "
            f"AND fromUnixTimestamp64Milli(toInt64({high}), 'UTC') AND "
        )
        hours = ",".join(str(hour) for hour in sorted({int(ms) // 3_600_000 * 3600 for _, ms in chunk}))
        where = {
            "ids alone": "",
            "ids and time": between,
            "ids and time, by hour": f"{between}toStartOfHour(occurred_at) IN ({hours}) AND ",
        }[form]
        yield f"SELECT DISTINCT event_id FROM {table} WHERE {where}event_id IN ({listed})"
