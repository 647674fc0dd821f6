"""`birdfeed spool list` and `birdfeed spool drain`: what this host's producers keep on disk while Redis is away."""

import socket
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from birdfeed.delivery.spool_drain import drain, spool_files
from birdfeed.errors import SpoolError
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool, SpooledBatch
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.monitoring.producers import forget_spool
from birdfeed_worker.queue.connect import connect
from redis.exceptions import RedisError
from rich.progress import Progress
from rich.table import Table

from birdfeed_cli.common.console import OK, PARTLY, UNREACHABLE, USAGE, err, fail, out, print_json


def run_list(*, as_json: bool) -> int:
    """Print every batch of every spool of this host. Exit code 1 if a spool is damaged."""
    options = ProducerSettings.with_dotenv().options()
    files, damaged = spool_files(options)
    found: list[tuple[Path, list[SpooledBatch]]] = []
    for path in files:
        try:
            with closing(Spool(path, max_bytes=options.spool_bytes)) as spool:
                found.append((path, spool.batches()))
        except SpoolError as error:
            damaged.append(path)
            fail(f"{path}: {error}", PARTLY)
    if as_json:
        print_json(
            {
                "spools": [{"file": str(path), "batches": [describe(one) for one in held]} for path, held in found],
                "damaged": [str(path) for path in damaged],
            }
        )
    else:
        for path, held in found:
            out.print(_table(path, held))
        if not found:
            out.print(f"no spool in {options.spool_directory}")
        for path in damaged:
            out.print(f"damaged, so it was renamed and is no longer read: {path}")
    return PARTLY if damaged else OK


def run_drain(path: Path | None, rate: float | None, *, as_json: bool) -> int:
    """Send what a spool holds. Exit codes: 0 all sent, 1 some are left or lost, 2 wrong use, 3 no Redis."""
    options = ProducerSettings.with_dotenv().options()
    there = path is not None or bool(spool_files(options)[0])
    try:
        with Progress(console=err, transient=True, disable=as_json) as progress:
            task = progress.add_task("draining", total=None)
            done = drain(options, path=path, rate=rate, on_progress=lambda sent: progress.update(task, completed=sent))
    except ValueError as error:
        return fail(str(error), USAGE)
    if not done.left.events:
        # Workers remember this host's spool from the heartbeats of producers that may all have ended.
        with suppress(RedisError), connect(options.redis_url_text, tries=1) as connection:
            forget_spool(connection, Keys(options.key_prefix, options.queue), socket.gethostname())
    if as_json:
        print_json({"events": done.events, "batches": done.batches, "dropped": done.dropped, "left": done.left.events})
    else:
        out.print(f"{counted(done.events, 'event')} sent in {counted(done.batches, 'job')}")
        if not there:
            out.print(f"no spool in {options.spool_directory}")
        if done.dropped:
            out.print(f"{counted(done.dropped, 'event')} could not be read back; counted as dropped in the ledger")
        if done.left.events:
            events = counted(done.left.events, "event is", "events are")
            out.print(f"{events} left: Redis failed, or another process is sending them")
    if done.redis == "down":
        return fail("Redis does not accept events; the rest stays in the spool", UNREACHABLE)
    return PARTLY if done.dropped or done.left.events else OK


def describe(batch: SpooledBatch) -> dict[str, object]:
    """A batch for JSON output."""
    return {
        "id": batch.id,
        "event_type": batch.event_type,
        "events": batch.events,
        "bytes": batch.bytes,
        "added": datetime.fromtimestamp(batch.added, UTC).isoformat(timespec="seconds") if batch.id else None,
        "held": batch.held,
    }


def _table(path: Path, batches: list[SpooledBatch]) -> Table:
    table = Table(
        title=f"{path.name}: {counted(sum(batch.events for batch in batches), 'event')}", title_justify="left"
    )
    table.add_column("added (UTC)")
    table.add_column("event type")
    for name in ("events", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("being sent")
    for batch in batches:
        # Single events, written by durability=spool, have no time until they are packed.
        added = datetime.fromtimestamp(batch.added, UTC).strftime("%Y-%m-%d %H:%M:%S") if batch.id else "single events"
        table.add_row(added, batch.event_type, str(batch.events), str(batch.bytes), "yes" if batch.held else "")
    return table
