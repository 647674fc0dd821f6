"""docs/reference/new-columns.md: the deployment that adds this version's columns, on tables that are filled."""

import random
import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import httpx
import orjson
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.datafiles import Datasource, parse_datasource
from birdfeed_sandbox.store.ddl import create_table

from tests.support import rows as made
from tests.support.repository import DATA, DOCS

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TYPES = {"llm_events": "text_generation", "image_events": "image_generation"}


def forward_query(datasource: str) -> str:
    text = (DOCS / "reference" / "new-columns.md").read_text()
    [query] = re.findall(rf"`datasources/{datasource}\.datasource`:\n\n```\nFORWARD_QUERY >\n(.*?)```", text, re.DOTALL)
    return str(query)


def datafile(datasource: str, *, before: bool) -> Datasource:
    """The shipped datafile, or the one of the version before these columns."""
    shipped = files("birdfeed_schemas") / "data" / "datasources" / f"{datasource}.datasource"
    text = (DATA / "datasources_before" / f"{datasource}.datasource").read_text() if before else shipped.read_text()
    return parse_datasource(text, name="before" if before else "after")


@pytest.mark.parametrize("datasource", TYPES)
def test_every_old_row_keeps_every_value(store: Sandbox, datasource: str) -> None:
    """300 rows as the version before stored them: old columns as they were, new ones at their defaults."""
    dice = random.Random(4)
    rows = made.sample(dice, TYPES[datasource], [NOON - timedelta(minutes=nth) for nth in range(300)])
    answer = httpx.post(
        f"{store.url}/v0/events",
        params={"name": datasource, "wait": "true"},
        content=b"\n".join(map(orjson.dumps, rows)),
        headers={"Authorization": f"Bearer {store.append_token}"},
        timeout=60,
    )
    assert answer.json() == {"successful_rows": 300, "quarantined_rows": 0}
    old, new = datafile(datasource, before=True), datafile(datasource, before=False)
    names = ", ".join(column.name for column in old.columns)
    for table in (old, new):
        store.sql(f"DROP TABLE IF EXISTS {table.name} SYNC")
        store.sql(create_table(table))
    store.sql(f"INSERT INTO before SELECT {names} FROM {datasource}")
    store.sql(f"INSERT INTO after {forward_query(datasource)} FROM before")

    kept = store.sql(f"SELECT {names} FROM after ORDER BY event_id")
    were = store.sql(f"SELECT {names} FROM before ORDER BY event_id")
    added = [column for column in new.columns if column.name not in {one.name for one in old.columns}]
    differing = " OR ".join(f"{column.name} != CAST({column.default}, '{column.type}')" for column in added)
    changed = store.sql(f"SELECT count() AS n FROM after WHERE {differing}")
    for table in (old, new):
        store.sql(f"DROP TABLE {table.name} SYNC")

    assert len(kept) == 300
    assert kept == were
    assert int(changed[0]["n"]) == 0
    assert len(added) >= 15


@pytest.mark.parametrize("datasource", TYPES)
def test_the_query_names_the_columns_in_their_order(datasource: str) -> None:
    """An INSERT ... SELECT goes by position."""
    named = [line.rpartition(" ")[2].rstrip(",") for line in forward_query(datasource).splitlines()[1:]]

    assert [column.name for column in datafile(datasource, before=False).columns] == named
