"""`birdfeed demo`: the whole path on embedded servers, with typical failures, and a check at the end.

The check doesn't rely on birdfeed's own counts: it compares what was passed to track_event with the distinct ids that
SQL finds in the sandbox, and with the events in the dead letters.
"""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import birdfeed
import httpx
import orjson
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, dead_letters_of
from birdfeed_worker.monitoring.depth import depth
from birdfeed_worker.operations.replay import replay
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.reply import as_text
from redis import Redis
from rich.table import Table

from birdfeed_cli.common.console import OK, PARTLY, fail, out
from birdfeed_cli.dead_letters.listing import group, kinds_table
from birdfeed_cli.local.demo_events import demo_events
from birdfeed_cli.local.services import Stack, StackError, wait_until

#: Settings with shorter waits than in production, so that the demo ends within a minute.
HASTE = {
    "BIRDFEED_SETTLE_SECONDS": "2",
    "BIRDFEED_RETRY_BASE": "0.3",
    "BIRDFEED_RETRY_CAP": "2",
    "BIRDFEED_LOG_LEVEL": "warning",
}
#: The model whose rows the sandbox's schema refuses until it is fixed.
REFUSED_MODEL = "flux"
SCHEMA_FAULT: dict[str, object] = {"quarantine_rows": {"path": "$.model", "equals": REFUSED_MODEL}}
#: Seconds for the queue to become empty.
DRAIN_SECONDS = 60.0


class Demo:
    """The running stack, and functions to inspect it."""

    def __init__(self, stack: Stack) -> None:
        environment = stack.environment
        self.stack = stack
        self.redis: Redis = connect(environment["BIRDFEED_REDIS_URL"], tries=5)
        self.keys = Keys("rq", "birdfeed")
        self.http = httpx.Client(base_url=environment["TINYBIRD_HOST"], timeout=30)
        self.read_token = environment["TINYBIRD_READ_TOKEN"]

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows of a SELECT, from the sandbox's SQL API."""
        answer = self.http.post(
            "/v0/sql", content=query + " FORMAT JSON", headers={"Authorization": f"Bearer {self.read_token}"}
        )
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def set_faults(self, *faults: dict[str, object]) -> None:
        """Replace the sandbox's active faults by these."""
        headers = {"Authorization": f"Bearer {self.stack.admin_token}"}
        self.http.delete("/_sandbox/fault", headers=headers).raise_for_status()
        for fault in faults:
            self.http.post("/_sandbox/fault", json=fault, headers=headers).raise_for_status()

    def waiting(self) -> int:
        """Jobs that are queued, in flight, or scheduled for later."""
        return depth(self.redis, self.keys).total

    def drained(self) -> None:
        """Wait until nothing is under way."""
        wait_until(lambda: self.waiting() == 0, DRAIN_SECONDS, "the queue does not become empty")

    def kill_a_busy_worker(self) -> int:
        """kill -9 a worker that has jobs in flight; returns its process id."""

        def busy() -> int | None:
            for name in self.redis.smembers("rq:workers"):
                pid = self.redis.hget(name, "pid")
                if pid and self.redis.scard(f"{as_text(name)}:executions"):
                    return int(pid)
            return None

        pid = wait_until(busy, 20, "no worker has jobs in flight")
        os.kill(pid, signal.SIGKILL)
        return pid

    def rows_by(self, column: str) -> Counter[str]:
        """Value of a column → number of rows with it."""
        rows: Counter[str] = Counter()
        for table in ("llm_events", "image_events"):
            found = self.sql(f"SELECT {column} AS value, toUInt32(count()) AS n FROM {table} GROUP BY value")
            rows.update({row["value"]: int(row["n"]) for row in found})
        return rows

    def dead(self) -> list[DeadLetterInfo]:
        """The dead letters."""
        return list(dead_letters_of(self.redis, self.keys))


def run_demo(events: int, *, keep: bool) -> int:
    """Run the demo; exit code 0 only if every event is accounted for."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="birdfeed-demo-") as folder, _away_from_settings(folder):
        os.environ.update(HASTE)
        try:
            with Stack(Path(folder), log_file=Path(folder) / "demo.log") as stack:
                os.environ.update(stack.environment)
                stack.start_pool(processes=2)
                say("1. Started: an embedded Valkey, a sandbox Tinybird, 2 workers")
                demo = Demo(stack)
                with demo.http, demo.redis:
                    problems = _play(demo, events)
                out.print()
                say(f"The demo took {time.monotonic() - started:.0f} s.")
                if keep:
                    _wait_for_ctrl_c(stack)
        except StackError as error:
            return fail(str(error), PARTLY)
    for problem in problems:
        fail(problem, PARTLY)
    return PARTLY if problems else OK


@contextmanager
def _away_from_settings(folder: str) -> Iterator[None]:
    """Run the block with the default settings: neither the environment nor .env is read or changed."""
    before, here = dict(os.environ), Path.cwd()
    for name in before:
        if name.startswith(("BIRDFEED_", "TINYBIRD_")) or name == "REDIS_URL":
            del os.environ[name]
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def _play(demo: Demo, events: int) -> list[str]:
    stream = demo_events(events)
    third = events // 3
    tracked: list[str] = []
    say("2. A request handler tracks events; the store's schema refuses one model's rows")
    birdfeed.start()
    demo.set_faults(SCHEMA_FAULT)
    took = track(islice(stream, third), tracked)
    say(f"   track_event took {took * 1e6:.1f} µs an event")
    say("3. The store goes down while more come in")
    demo.set_faults(SCHEMA_FAULT, {"outage": True})
    track(islice(stream, third), tracked)
    birdfeed.flush()
    wait_until(lambda: demo.redis.zcard(demo.keys.scheduled), 20, "no job waits for the store")
    say(f"   {counted(demo.waiting(), 'job waits', 'jobs wait')} in Redis; none is lost")
    say("4. The store is back, but slow; a worker is killed with jobs in flight (kill -9)")
    demo.set_faults(SCHEMA_FAULT, {"delay_seconds": 0.5})
    track(stream, tracked)
    birdfeed.flush()
    pid = demo.kill_a_busy_worker()
    say(f"   killed {pid}; the pool gives its jobs to another and starts a new worker")
    demo.drained()
    birdfeed.close()
    dead = demo.dead()
    out.print(_balance(demo, tracked, dead))
    out.print(_costs(demo, "model"))
    out.print(_costs(demo, "tier"))
    out.print(kinds_table(group((letter, letter.events) for letter in dead)))
    problems = _check(demo, tracked, dead)
    demo.set_faults()
    say("5. Somebody fixes the schema and replays what it refused: birdfeed dead replay --reason quarantined")
    result = replay(demo.redis, demo.keys, Choice(reason="quarantined"))
    demo.drained()
    say(f"   {counted(result.events, 'event')} replayed; events that are invalid themselves stay dead")
    dead = demo.dead()
    out.print(_balance(demo, tracked, dead))
    problems += _check(demo, tracked, dead)
    if any(letter.reason == "quarantined" for letter in dead):
        problems.append("replayed events are still quarantined")
    if not problems:
        say("Every event is in the store once, or in a dead letter with its reason.", style="green")
    return problems


def track(events: Iterable[tuple[str, dict[str, Any]]], tracked: list[str]) -> float:
    """Track events as a handler does; returns the seconds per event."""
    batch = list(events)
    started = time.perf_counter()
    for event_type, data in batch:
        birdfeed.track_event(birdfeed.EventType(event_type), data)
    took = time.perf_counter() - started
    tracked.extend(data["request_id"] for _, data in batch)
    return took / max(1, len(batch))


def dead_events(letters: Iterable[DeadLetterInfo]) -> list[tuple[str, str]]:
    """request_id and event_id of every dead event."""
    found = []
    for letter in letters:
        for line in letter.batch.lines if letter.batch is not None else ():
            event = orjson.loads(line)
            found.append((event["data"]["request_id"], event["event_id"]))
    return found


def check(
    tracked: Sequence[str],
    rows: Counter[str],
    row_ids: Counter[str],
    dead: Sequence[tuple[str, str]],
    dropped: int,
) -> list[str]:
    """What doesn't add up, one sentence each. Pure.

    Args:
        tracked: The request_id of every event.
        rows: request_id → number of stored rows.
        row_ids: event_id → number of stored rows.
        dead: request_id and event_id of the dead events.
        dropped: The number of events that the producer dropped.
    """
    lost_to = Counter(request_id for request_id, _ in dead)
    dead_ids = {event_id for _, event_id in dead}
    found = {
        ("event is lost", "events are lost"): sum(not rows[one] and not lost_to[one] for one in tracked),
        ("event is in more than one place", "events are in more than one place"): sum(
            rows[one] + lost_to[one] > 1 for one in tracked
        ),
        ("event in the store was never tracked", "events in the store were never tracked"): len(
            (set(rows) | set(lost_to)) - set(tracked)
        ),
        ("event_id is in more than one place", "event_ids are in more than one place"): sum(
            n > 1 or one in dead_ids for one, n in row_ids.items()
        ),
        ("event_id too many or too few", "event_ids too many or too few"): abs(
            len(set(row_ids) | dead_ids) - len(tracked)
        ),
        ("event was dropped by the producer", "events were dropped by the producer"): dropped,
    }
    return [counted(amount, *what) for what, amount in found.items() if amount]


def _check(demo: Demo, tracked: list[str], dead: list[DeadLetterInfo]) -> list[str]:
    dropped = sum(birdfeed.stats().dropped.values())
    return check(tracked, demo.rows_by("request_id"), demo.rows_by("event_id"), dead_events(dead), dropped)


def _balance(demo: Demo, tracked: list[str], dead: list[DeadLetterInfo]) -> Table:
    rows, lost_to = demo.rows_by("event_id"), dead_events(dead)
    table = Table(title="the balance", title_justify="left")
    for column in ("accepted", "written (distinct in the store)", "dead", "rows twice", "unaccounted for"):
        table.add_column(column, justify="right")
    distinct = len(rows)
    table.add_row(
        str(len(tracked)),
        str(distinct),
        str(len(lost_to)),
        str(sum(rows.values()) - distinct),
        str(len(tracked) - distinct - len(lost_to)),
    )
    return table


def _costs(demo: Demo, by: str) -> Table:
    parts = " UNION ALL ".join(
        f"SELECT {by}, cost, cost_status FROM {table} LIMIT 1 BY event_id" for table in ("llm_events", "image_events")
    )
    rows = demo.sql(
        f"SELECT {by}, toUInt32(count()) AS events, toString(sum(cost)) AS usd, "
        f"toUInt32(countIf(cost_status = 'unpriced')) AS unpriced FROM ({parts}) "
        f"GROUP BY {by} ORDER BY sum(cost) DESC, {by} LIMIT 12"
    )
    table = Table(title=f"cost by {by}, by SQL from the store", title_justify="left")
    table.add_column(by)
    for column in ("events", "cost (USD)", "unpriced"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row[by], str(row["events"]), row["usd"], str(row["unpriced"]))
    return table


def _wait_for_ctrl_c(stack: Stack) -> None:
    for name, value in stack.environment.items():
        out.print(f"  export {name}={value}", soft_wrap=True)
    say("Everything keeps running until Ctrl-C.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("stopping")


def say(text: str, style: str = "bold") -> None:
    """Print one line."""
    out.print(text, style=style)
