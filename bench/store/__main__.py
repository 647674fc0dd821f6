"""What reading the store costs: candidates of sorting key and of counting each event once, on millions of rows.

    python -m bench.store [--rows 10000000] [--days 30] [--folder DIR] [--keep] [--only cost]

Real ClickHouse (chDB), the shipped llm_events.datasource with other sorting keys, rows made by SQL. One row in a
hundred is written twice, the second time with another tier, provider and cost, in parts not merged yet. Ten
million need 5 GB of disk, 4 GB of memory and 15 minutes on 2 cores.
docs/explanation/reading-costs.md has the table this prints.

Each query runs in its own process, so that its peak memory can be measured. rows and MB are what ClickHouse says it
read; seconds are the better of two runs, so the files are in the page cache.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from birdfeed_sandbox.datafiles.datasource import parse_datasource
from birdfeed_sandbox.store.ddl import create_table
from chdb.session import Session

from bench.store.questions import EXISTING, VERIFY, aggregations, ids_sql, verifications
from bench.store.rows import columns, rows
from tests.support.existing import existing_datasource

#: Table's name → its sorting key. track_event fixes the values of all their columns.
KEYS: Final = {
    "hour_model_id": "toStartOfHour(occurred_at), model, event_id",
    "time_id": "occurred_at, event_id",
    "model_hour_id": "model, toStartOfHour(occurred_at), event_id",
}
_SELF: Final = (sys.executable, "-m", "bench.store")
#: Rows of one insert, for parts as large as those that Tinybird makes by merging small inserts.
CHUNK: Final = 250_000
#: One of this many rows is written a second time.
TWICE: Final = 100


def main() -> None:
    options = arguments()
    if options.ask is not None:
        print(json.dumps(ask(options.folder, json.loads(options.ask))))
        return
    step = options.days * 86_400_000 // options.rows
    if options.make:
        make(options.folder, options.rows, step)
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="birdfeed-store-"))
    try:
        if not (folder / "made").exists():
            subprocess.run([*_SELF, *sys.argv[1:], "--folder", str(folder), "--make"], check=True)
        report(folder, options.rows, options.days, step, options.only)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where the tables are made, or lie from a run with --keep")
    parser.add_argument("--keep", action="store_true", help="leave the tables in the folder")
    parser.add_argument("--only", default="", help="a word of the title of what to ask: cost, event_ids")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    return parser.parse_args()


def open_session(folder: Path) -> Any:
    session: Any = Session(str(folder / "chdb"))
    session.query("CREATE DATABASE IF NOT EXISTS workspace")
    session.query("USE workspace")
    return session


def make(folder: Path, count: int, step: int) -> None:
    """Create and fill the tables, wait for their merges, then write the rows that are written twice."""
    session = open_session(folder)
    text = (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text()
    shipped = parse_datasource(text, name="llm_events")
    into = ", ".join(columns())
    for name, key in KEYS.items():
        started = time.perf_counter()
        session.query(create_table(replace(shipped, name=name, options={**shipped.options, "SORTING_KEY": key})))
        for first in range(0, count, CHUNK):
            some = rows(first, min(CHUNK, count - first), step=step)
            session.query(f"INSERT INTO {name} ({into}) SELECT {into} FROM ({some})")
        settle(session, name)
        session.query(f"SYSTEM STOP MERGES {name}")
        again = rows(0, count, step=step, version=1, every=TWICE)
        session.query(f"INSERT INTO {name} ({into}) SELECT {into} FROM ({again})")
        size, parts = values(
            session, f"SELECT sum(bytes_on_disk), count() FROM system.parts WHERE active AND table = '{name}'"
        )
        print(
            f"{name}: {count:,} rows and {count // TWICE:,} twice, {int(size) / 1e9:.2f} GB in {parts} parts, "
            f"made in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    session.query(create_table(parse_datasource(existing_datasource(), name=EXISTING)))
    held = "id, timestamp, end_time, model, provider, user, message_id, response_id, duration"
    for first in range(0, count, CHUNK):
        some = rows(first, min(CHUNK, count - first), step=step)
        session.query(f"INSERT INTO {EXISTING} ({held}) SELECT {held} FROM ({some})")
    settle(session, EXISTING)
    session.close()
    (folder / "made").touch()


def settle(session: Any, table: str) -> None:
    """Wait until no merge of the table runs."""
    quiet = 0
    while quiet < 20:
        busy = values(session, f"SELECT count() FROM system.merges WHERE table = '{table}'")[0]
        quiet = 0 if int(busy) else quiet + 1
        time.sleep(0.1)


def values(session: Any, sql: str) -> list[str]:
    return str(session.query(sql, "TSV")).strip().split("\t")


def ask(folder: Path, question: dict[str, Any]) -> dict[str, float]:
    """Run a query in this process: rows and bytes read, the better time of two runs, peak memory."""
    session = open_session(folder)
    for name in (*KEYS, EXISTING):
        session.query(f"SYSTEM STOP MERGES {name}")
    # It would remember from the first run which rows don't match; Tinybird's versions may not have it.
    session.query("SET use_query_condition_cache = 0")
    queries = question["queries"]
    if "ids" in question:
        found = [line.split("\t") for line in str(session.query(question["ids"], "TSV")).splitlines()]
        queries = list(verifications(question["table"], found, question["form"]))
    before = peak()
    best: dict[str, float] = {}
    for _ in range(2):
        started = time.perf_counter()
        read = [json.loads(session.query(sql, "JSON").bytes()) for sql in queries]
        took = time.perf_counter() - started
        if not best or took < best["seconds"]:
            best = {
                "rows": sum(answer["statistics"]["rows_read"] for answer in read),
                "bytes": sum(answer["statistics"]["bytes_read"] for answer in read),
                "seconds": took,
                "answered": sum(answer["rows"] for answer in read),
                "queries": len(read),
            }
    session.close()
    return {**best, "memory": peak() - before}


def peak() -> float:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(folder: Path, count: int, days: int, step: int, only: str) -> None:
    """Run all queries, or those with `only` in their title; print the tables in docs/explanation/reading-costs.md."""
    for title, questions in (
        ("cost by day and tier, each event once", aggregations(KEYS, days)),
        ("which of 10,000 event_ids are there", asked(count, step)),
    ):
        if only not in title:
            continue
        print(f"\n### {title}\n")
        print("| key | how | over | rows read | MB read | seconds | peak MB | answer |")
        print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for question in questions:
            told = told_by_child(folder, question)
            print(
                f"| {question['table']} | {question['form']} | {question['over']} | {told['rows']:,} | "
                f"{told['bytes'] / 1e6:,.0f} | {told['seconds']:.2f} | {told['memory'] / 1e6:,.0f} | "
                f"{told['answered']:,} rows in {told['queries']} |",
                flush=True,
            )


def asked(count: int, step: int) -> Iterator[dict[str, Any]]:
    """The verifications."""
    for table in (*KEYS, EXISTING):
        for over, ids in ids_sql("time_id", count, step).items():
            for form in VERIFY if table != EXISTING else ("the first window", "the second window"):
                yield {"table": table, "form": form, "over": over, "ids": ids, "queries": []}


def told_by_child(folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [*_SELF, "--folder", str(folder), "--ask", json.dumps(question)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{question}\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
