"""Erase one person's events from a spool: `birdfeed forget`.

Other processes may be using the spool, so each batch is changed in a short transaction of its own. Batches that a
process is sending are left, and counted. SQLite overwrites what is erased (secure_delete), in the write-ahead log too.
"""

import time
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from birdfeed.encoding.batch import PackedBatch, lines_of, with_lines
from birdfeed.spool.database import SpoolFile
from birdfeed.spool.store import FREE

#: Seconds to wait for another process's transaction.
_BUSY_SECONDS: Final = 5.0
#: The reason under which the ledger counts erased events.
FORGOTTEN: Final = "forgotten"

#: Takes an event's type and line; whether the event is the person's.
Owns = Callable[[str, bytes], bool]


@dataclass(slots=True)
class Forgotten:
    """Counts: events that were erased, or would be; events in batches that a process is sending; unreadable batches."""

    events: int = 0
    being_sent: int = 0
    unreadable: int = 0


def forget(path: Path, owns: Owns, *, dry_run: bool = False) -> Forgotten:
    """Erase the events for which `owns` is true. The ledger counts them when the spool is next sent.

    Raises:
        SpoolError: The spool can't be read or written.
    """
    file = SpoolFile(path, busy_seconds=_BUSY_SECONDS)
    found = Forgotten()
    with closing(file):
        with file.snapshot() as db:
            db.execute("PRAGMA secure_delete = ON")
            single = [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY seq").fetchall()]
        for seq in single:
            _single(file, seq, owns, found, dry_run=dry_run)
        with file.snapshot() as db:  # now, because other processes have packed some of the single events meanwhile
            batches = [seq for (seq,) in db.execute("SELECT seq FROM batches ORDER BY seq").fetchall()]
        for seq in batches:
            _from_batch(file, seq, owns, found, dry_run=dry_run)
        if not dry_run:
            file.scrub()  # free pages may still hold events that were sent before
    return found


def _from_batch(file: SpoolFile, seq: int, owns: Owns, found: Forgotten, *, dry_run: bool) -> None:
    with file.transaction() as db:
        row = db.execute(
            f"SELECT id, event_type, events, size, data, retried, {FREE}, crc FROM batches WHERE seq = :seq",
            {"now": time.monotonic(), "seq": seq},
        ).fetchone()
        if row is None:
            return  # sent in the meantime
        batch_id, event_type, events, size, data, retried, free, crc = row
        batch = PackedBatch(
            id=batch_id, event_type=event_type, events=events, size=size, data=data, retried=bool(retried)
        )
        try:
            lines = lines_of(batch) if zlib.crc32(data) == crc else None
        except ValueError:
            lines = None
        if lines is None:
            found.unreadable += 1
            return
        kept = [line for line in lines if not owns(event_type, line)]
        gone = len(lines) - len(kept)
        if not free:
            found.being_sent += gone
            return
        found.events += gone
        if dry_run or not gone:
            return
        if kept:
            left = with_lines(batch, kept)
            db.execute(
                "UPDATE batches SET data = ?, crc = ?, events = ?, size = ? WHERE seq = ?",
                (left.data, zlib.crc32(left.data), left.events, left.size, seq),
            )
            # When data changes, the table's trigger updates only the bytes.
            db.execute("UPDATE totals SET events = events - ?", (gone,))
        else:
            db.execute("DELETE FROM batches WHERE seq = ?", (seq,))
        _report(db, event_type, gone)


def _single(file: SpoolFile, seq: int, owns: Owns, found: Forgotten, *, dry_run: bool) -> None:
    with file.transaction() as db:
        row = db.execute("SELECT event_type, line FROM events WHERE seq = ?", (seq,)).fetchone()
        if row is None or not owns(row[0], row[1]):
            return
        found.events += 1
        if not dry_run:
            db.execute("DELETE FROM events WHERE seq = ?", (seq,))
            _report(db, row[0], 1)


def _report(db: Any, event_type: str, events: int) -> None:
    """Add a report for the ledger, in the same transaction."""
    drops = orjson.dumps([[event_type, FORGOTTEN, events]]).decode()
    db.execute("INSERT INTO reports (id, drops) VALUES (?, ?)", (str(uuid4()), drops))
