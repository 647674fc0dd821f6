"""docs/reference/new-columns.md: the deployment that adds this version's columns, on tables with rows."""

import random
import re
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
from birdfeed_sandbox import Sandbox
from birdfeed_sandbox.datafiles.datasource import Datasource, parse_datasource
from birdfeed_sandbox.store.ddl import create_table
from birdfeed_schemas.tables.former import FORMER, is_short

from tests.support import rows as made
from tests.support.existing import former_datasource, shipped
from tests.support.repository import DATA, DOCS

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TYPES = {"llm_events": "text_generation", "image_events": "image_generation"}


def forward_query(datasource: str) -> str:
    text = (DOCS / "reference" / "new-columns.md").read_text()
    [query] = re.findall(rf"`datasources/{datasource}\.datasource`:\n\n```\nFORWARD_QUERY >\n(.*?)```", text, re.DOTALL)
    return str(query)


def before(datasource: str) -> str:
    """The datafile of the version before these columns."""
    return (DATA / "datasources_before" / f"{datasource}.datasource").read_text()


def after(datasource: str) -> Datasource:
    """The shipped datafile, as a table of another name."""
    return parse_datasource(shipped(datasource), name="after")


def filled(store: Sandbox, datasource: str, datafile: str) -> None:
    """A table of this datafile with 300 rows."""
    store.replace_datasource(datasource, datafile)
    rows = made.sample(random.Random(4), TYPES[datasource], [NOON - timedelta(minutes=nth) for nth in range(300)])
    answer = httpx.post(
        f"{store.url}/v0/events",
        params={"name": datasource, "wait": "true"},
        content=b"\n".join(map(orjson.dumps, rows)),
        headers={"Authorization": f"Bearer {store.append_token}"},
        timeout=60,
    )
    assert answer.json() == {"successful_rows": 300, "quarantined_rows": 0}


def deployed(store: Sandbox, datasource: str, query: str) -> Datasource:
    """The table "after", which Tinybird makes from the live table and a FORWARD_QUERY."""
    new = after(datasource)
    store.sql("DROP TABLE IF EXISTS after SYNC")
    store.sql(create_table(new))
    store.sql(f"INSERT INTO after {query} FROM {datasource}")
    return new


@pytest.mark.parametrize("datasource", TYPES)
def test_every_old_row_keeps_every_value(store: Sandbox, datasource: str) -> None:
    """As the previous version stored them: old columns are unchanged, new ones have their defaults."""
    filled(store, datasource, before(datasource))
    old = parse_datasource(before(datasource), name="before").columns
    new = deployed(store, datasource, forward_query(datasource)).columns
    stay = ", ".join(one.name for one in old if one.name in {column.name for column in new})

    kept = store.sql(f"SELECT {stay} FROM after ORDER BY event_id")
    were = store.sql(f"SELECT {stay} FROM {datasource} ORDER BY event_id")
    added = [column for column in new if column.name not in {one.name for one in old}]
    differing = " OR ".join(f"{column.name} != CAST({column.default}, '{column.type}')" for column in added)
    changed = store.sql(f"SELECT count() AS n FROM after WHERE {differing}")
    store.sql("DROP TABLE after SYNC")

    assert len(kept) == 300
    assert kept == were
    assert int(changed[0]["n"]) == 0
    assert len(added) >= 15
    assert {one.name for one in old} - {one.name for one in new} == {one.name for one in FORMER.get(datasource, ())}


def test_a_table_that_has_the_new_columns_loses_only_what_repeats(store: Sandbox) -> None:
    """The same block without CASTs: the remaining columns have every value, and workers notice the change."""
    filled(store, "llm_events", former_datasource())
    gone = FORMER["llm_events"]
    query = re.sub(r"CAST\(.+?, '.+?'\) AS ", "", forward_query("llm_events"))
    names = ", ".join(column.name for column in deployed(store, "llm_events", query).columns)

    kept = store.sql(f"SELECT {names} FROM after ORDER BY event_id")
    were = store.sql(f"SELECT {names} FROM llm_events ORDER BY event_id")
    had = store.sql(f"SELECT event_id, {', '.join(one.name for one in gone)} FROM llm_events ORDER BY event_id")
    have = store.sql(
        f"SELECT event_id, {', '.join(f'{one.now} AS {one.name}' for one in gone)} FROM after ORDER BY event_id"
    )
    live = [set(store.sql(f"SELECT * FROM {table} LIMIT 1")[0]) for table in ("after", "llm_events")]
    store.sql("DROP TABLE after SYNC")

    assert len(kept) == 300
    assert kept == were
    assert have == had
    assert [is_short("llm_events", columns) for columns in live] == [True, False]


def test_the_docs_say_how_to_get_the_removed_columns() -> None:
    """Each former column with the SQL that gives it."""
    text = (DOCS / "reference" / "new-columns.md").read_text()
    said = re.findall(r"^\| `(\w+)` \| `(.+)` \|$", text, re.MULTILINE)

    assert said == [(one.name, one.now) for one in FORMER["llm_events"]]


@pytest.mark.parametrize("datasource", TYPES)
def test_the_query_names_the_columns_in_their_order(datasource: str) -> None:
    """INSERT ... SELECT assigns by position."""
    named = [line.rpartition(" ")[2].rstrip(",") for line in forward_query(datasource).splitlines()[1:]]

    assert [column.name for column in after(datasource).columns] == named
