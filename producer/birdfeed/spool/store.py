"""Keep batches on disk while Redis can't take them: a SQLite file that the processes of a host share.

Why SQLite from the standard library: several processes must claim, lease and delete single batches, may be killed at
any instruction, and share one bound in bytes. SQLite's transactions give all of that, in a mature file format, without
a dependency. The packages for this (diskcache, persist-queue, litequeue) use SQLite too, but have no leases. Plain
append-only files would be faster to write, but would need bookkeeping of who has sent which part, and that is where
such code loses data.

WAL with synchronous=NORMAL: what was written survives the death of the process (SIGKILL); a power loss may lose the
last second.

The process that sends a batch claims it for LEASE_SECONDS, measured by a clock that is never set back, and deletes it
when Redis has it. If the process dies, its claim expires and another process sends the batch again, with the same id
and marked as retried: Redis takes it only once.
"""

import os
import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from birdfeed.encoding.batch import PackedBatch, cut, mark_retried, pack
from birdfeed.errors import SpoolError
from birdfeed.options import Options
from birdfeed.spool.database import ROW_OVERHEAD, SpoolFile
from birdfeed.spool.location import make_directory, spool_path

#: Seconds for which a claimed batch is reserved for its process; sending takes a second or two at worst.
LEASE_SECONDS: Final = 30.0
#: No process holds it. An end later than any valid claim's is from before the host started, or by another clock.
FREE: Final = f"(held_until <= :now OR held_until > :now + {LEASE_SECONDS})"
#: Bytes claimed at once: as many as one round trip sends.
CLAIM_BYTES: Final = 1_000_000
#: Events packed in one transaction, which blocks other processes for about 5 ms.
COLLECT_EVENTS: Final = 1_000

#: Number of dropped events by (event type, reason).
Drops = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBatch:
    """One entry of a spool, for display. `added` is in epoch seconds; `held` means that a process is sending it."""

    id: str
    event_type: str
    events: int
    bytes: int
    added: float
    retried: bool
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a spool holds: events (in batches and single), bytes (as counted towards the bound), and drop reports."""

    events: int
    bytes: int
    reports: int


class Spool:
    """The batches, single events and drop reports in one file. All methods raise SpoolError if it can't be used."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        drop_oldest: bool = False,
        busy_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes` limits the payload; SQLite's file is about a tenth larger.

        `clock` is for the claims: it returns seconds that all processes of the host share and that are never set back.
        `wall_clock` returns epoch seconds, for display.
        """
        self._file = SpoolFile(path, busy_seconds=busy_seconds)
        self._max_bytes = max_bytes
        self._drop_oldest = drop_oldest
        self._clock = clock
        self._wall_clock = wall_clock
        self._holder = f"{os.getpid()}-{uuid4().hex}"
        self.path = path

    @classmethod
    def of(cls, options: Options, *, busy_seconds: float = 1.0) -> "Spool":
        """The spool that these options name."""
        return cls(
            spool_path(options),
            max_bytes=options.spool_bytes,
            drop_oldest=options.drop_policy == "oldest",
            busy_seconds=busy_seconds,
        )

    def exists(self) -> bool:
        """Whether the file exists: something was spooled here before."""
        return self.path.exists()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def add(self, batches: Sequence[PackedBatch]) -> tuple[int, Drops]:
        """Store batches. A batch that is already there is stored once.

        Returns:
            How many events were stored, and what was dropped because the spool is full.
        """
        kept = 0
        dropped: defaultdict[tuple[str, str], int] = defaultdict(int)
        with self._file.transaction() as db:
            for batch in batches:
                if self._has_room(db, len(batch.data), dropped):
                    self._insert(db, batch)
                    kept += batch.events
                else:
                    dropped[batch.event_type, "spool_full"] += batch.events
        return kept, dropped

    def add_event(self, event_type: str, line: bytes, dropped_fields: int) -> tuple[bool, Drops]:
        """Store a single event; returns whether it was stored, and what was dropped because the spool is full."""
        dropped: defaultdict[tuple[str, str], int] = defaultdict(int)
        with self._file.transaction() as db:
            stored = self._insert_event(db, event_type, line, dropped_fields) or (
                self._has_room(db, len(line), dropped) and self._insert_event(db, event_type, line, dropped_fields)
            )
            if not stored:
                dropped[event_type, "spool_full"] += 1
        return stored, dropped

    def collect(self, *, batch_events: int, batch_bytes: int, compression: int) -> tuple[list[PackedBatch], int]:
        """Pack single events, oldest first, into batches claimed by this process; also returns their dropped fields."""
        collected: list[PackedBatch] = []
        with self._file.transaction() as db:
            rows = db.execute(
                "SELECT seq, event_type, line, dropped_fields FROM events ORDER BY seq LIMIT ?", (COLLECT_EVENTS,)
            ).fetchall()
            if not rows:
                return [], 0
            lines = ((event_type, line) for _, event_type, line, _ in rows)
            for event_type, part in cut(lines, batch_events=batch_events, batch_bytes=batch_bytes):
                batch = pack(event_type, part, compression=compression)
                self._insert(db, batch, held=True)
                collected.append(batch)
            db.execute("DELETE FROM events WHERE seq <= ?", (rows[-1][0],))
        return collected, sum(row[3] for row in rows)

    def claim(self, max_events: int) -> tuple[list[PackedBatch], Drops]:
        """Claim the oldest batches that no process holds, up to about `max_events` events.

        Returns:
            The batches, and what was dropped because it was damaged on disk and could not be read back.
        """
        claimed: list[PackedBatch] = []
        unreadable: defaultdict[tuple[str, str], int] = defaultdict(int)
        with self._file.transaction() as db:
            now = self._clock()  # read in the transaction: against an older time, a claim just made would seem invalid
            rows = db.execute(
                "SELECT seq, id, event_type, events, size, data, crc, retried, holder FROM batches "
                f"WHERE {FREE} ORDER BY seq",
                {"now": now},
            )
            events = size = 0
            held, damaged = [], []
            for seq, batch_id, event_type, count, packed_size, data, crc, retried, holder in rows:
                if claimed and (events + count > max_events or size + len(data) > CLAIM_BYTES):
                    break
                if zlib.crc32(data) != crc:
                    unreadable[event_type, "spool_unreadable"] += count
                    damaged.append((seq,))
                    continue
                # A batch with a holder but an expired claim: the holder died or was stopped while sending it.
                batch = PackedBatch(
                    id=batch_id, event_type=event_type, events=count, size=packed_size, data=data, retried=bool(retried)
                )
                claimed.append(mark_retried(batch) if holder and not retried else batch)
                held.append((self._holder, now + LEASE_SECONDS, seq))
                events += count
                size += len(data)
            rows.close()
            db.executemany("UPDATE batches SET holder = ?, held_until = ? WHERE seq = ?", held)
            db.executemany("DELETE FROM batches WHERE seq = ?", damaged)
        return claimed, unreadable

    def settle(self, batches: Iterable[PackedBatch]) -> None:
        """Delete these batches: Redis has them."""
        with self._file.transaction() as db:
            db.executemany(
                "DELETE FROM batches WHERE id = ? AND holder = ?", [(batch.id, self._holder) for batch in batches]
            )

    def release(self, batches: Iterable[PackedBatch], *, unsure: bool) -> None:
        """Free these batches to be claimed again: Redis did not take them (with `unsure`: it may have)."""
        with self._file.transaction() as db:
            for batch in batches:
                if unsure:
                    batch = mark_retried(batch)
                db.execute(
                    "UPDATE batches SET holder = '', held_until = 0, retried = ?, data = ?, crc = ? "
                    "WHERE id = ? AND holder = ?",
                    (batch.retried, batch.data, zlib.crc32(batch.data), batch.id, self._holder),
                )

    def add_report(self, report_id: str, drops: Drops) -> None:
        """Store a drop report until Redis is back. It is small, so it is stored even if the spool is full."""
        rows = [[event_type, reason, events] for (event_type, reason), events in drops.items()]
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO reports (id, drops) VALUES (?, ?)", (report_id, orjson.dumps(rows).decode())
            )

    def claim_report(self) -> tuple[str, Drops] | None:
        """Claim a drop report for LEASE_SECONDS; None if there is none."""
        with self._file.transaction() as db:
            now = self._clock()
            row = db.execute(f"SELECT id, drops FROM reports WHERE {FREE} LIMIT 1", {"now": now}).fetchone()
            if row is None:
                return None
            db.execute("UPDATE reports SET held_until = ? WHERE id = ?", (now + LEASE_SECONDS, row[0]))
        return row[0], {(event_type, reason): events for event_type, reason, events in orjson.loads(row[1])}

    def settle_report(self, report_id: str) -> None:
        """Delete this report: the ledger has it."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM reports WHERE id = ?", (report_id,))

    def totals(self) -> Totals:
        """What the spool holds."""
        with self._file.snapshot() as db:
            row = db.execute("SELECT bytes, events, (SELECT count(*) FROM reports) FROM totals").fetchone()
        return Totals(bytes=row[0], events=row[1], reports=row[2])

    def oldest_age(self) -> float:
        """Seconds that the oldest batch has waited; 0 if there is none."""
        with self._file.snapshot() as db:
            row = db.execute("SELECT min(added) FROM batches").fetchone()
        return max(0.0, self._wall_clock() - row[0]) if row[0] is not None else 0.0

    def check(self) -> Path:
        """Check that the file can be created and written; returns its path."""
        make_directory(self.path.parent)
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise SpoolError(f"the spool's directory {self.path.parent} is not writable")
        return self.path

    def has_room(self) -> bool:
        """Whether a small batch could be stored without dropping another."""
        return self.totals().bytes + ROW_OVERHEAD < self._max_bytes

    def batches(self) -> list[SpooledBatch]:
        """Every batch, oldest first; then the single events of each type, without id and time."""
        now = self._clock()
        with self._file.snapshot() as db:
            rows = db.execute(
                f"SELECT id, event_type, events, length(data), added, retried, NOT {FREE} FROM batches ORDER BY seq",
                {"now": now},
            ).fetchall()
            single = db.execute(
                "SELECT '', event_type, count(*), sum(length(line)), 0, 0, 0 FROM events GROUP BY event_type"
            ).fetchall()
        return [
            SpooledBatch(
                id=row[0],
                event_type=row[1],
                events=row[2],
                bytes=row[3],
                added=row[4],
                retried=bool(row[5]),
                held=bool(row[6]),
            )
            for row in [*rows, *single]
        ]

    def shrink(self) -> None:
        """Return the space of deleted batches to the file system."""
        with self._file.transaction() as db:
            db.execute("PRAGMA incremental_vacuum").fetchall()

    def _insert(self, db: sqlite3.Connection, batch: PackedBatch, *, held: bool = False) -> None:
        db.execute(
            "INSERT OR IGNORE INTO batches "
            "(id, event_type, events, size, data, crc, retried, added, holder, held_until) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                batch.id,
                batch.event_type,
                batch.events,
                batch.size,
                batch.data,
                zlib.crc32(batch.data),
                batch.retried,
                self._wall_clock(),
                self._holder if held else "",
                self._clock() + LEASE_SECONDS if held else 0,
            ),
        )

    def _insert_event(self, db: sqlite3.Connection, event_type: str, line: bytes, dropped_fields: int) -> bool:
        done = db.execute(
            "INSERT INTO events (event_type, line, dropped_fields) SELECT ?, ?, ? "
            "WHERE (SELECT bytes FROM totals) + ? <= ?",
            (event_type, line, dropped_fields, len(line) + ROW_OVERHEAD, self._max_bytes),
        )
        return done.rowcount == 1

    def _has_room(self, db: sqlite3.Connection, size: int, dropped: defaultdict[tuple[str, str], int]) -> bool:
        """Whether `size` bytes fit; with the policy "oldest", after dropping the oldest that no process holds."""
        while db.execute("SELECT bytes FROM totals").fetchone()[0] + size + ROW_OVERHEAD > self._max_bytes:
            if not self._drop_oldest or size + ROW_OVERHEAD > self._max_bytes:  # then dropping all would not help
                return False
            oldest = db.execute(
                f"SELECT seq, event_type, events FROM batches WHERE {FREE} ORDER BY seq LIMIT 1",
                {"now": self._clock()},
            ).fetchone()
            table = "batches"
            if oldest is None:
                oldest = db.execute("SELECT seq, event_type, 1 FROM events ORDER BY seq LIMIT 1").fetchone()
                table = "events"
            if oldest is None:
                return False
            db.execute(f"DELETE FROM {table} WHERE seq = ?", (oldest[0],))
            dropped[oldest[1], "spool_full"] += oldest[2]
        return True
