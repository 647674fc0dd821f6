"""Keep batches on disk while Redis can't take them: a SQLite file that the processes of a host share.

Why SQLite from the standard library: several processes must claim, lease and delete single batches, be killed at any
instruction, and share one bound in bytes. SQLite's transactions give all of that, in a file format with 25 years of
care and no dependency. The packages for this (diskcache, persist-queue, litequeue) are SQLite underneath, without
leases. Plain append-only files would be quicker to write, but who has sent which part would have to be kept by hand,
and that is where such code loses data.

WAL with synchronous=NORMAL: what was written survives the process (SIGKILL); power loss may take the last second.

A batch is claimed for LEASE_SECONDS, by a clock that nobody sets back, by the process that sends it, and deleted when
Redis has it. If that process dies, its claim runs out and the next one sends the batch again, under the same id and
marked as retried: Redis takes it once.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from birdfeed.encoding.batch import PackedBatch, cut, mark_retried, pack
from birdfeed.options import Options
from birdfeed.spool.database import ROW_OVERHEAD, SpoolFile, spool_path

#: Seconds for which a process has a claimed batch to itself; sending takes a second or two at worst.
LEASE_SECONDS: Final = 30.0
#: Nobody holds it. A claim that ends later than a claim can was made before the host started, or by another clock.
FREE: Final = f"(held_until <= :now OR held_until > :now + {LEASE_SECONDS})"
#: Bytes claimed at once: what one round trip carries.
CLAIM_BYTES: Final = 1_000_000
#: Events packed in one transaction; others wait for it about 5 ms.
COLLECT_EVENTS: Final = 1_000

#: Events given up, by (event type, reason).
Drops = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBatch:
    """One entry of a spool, for people: `added` is epoch seconds, `held` says that a process is sending it."""

    id: str
    event_type: str
    events: int
    bytes: int
    added: float
    retried: bool
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a spool holds: events (in batches and single), bytes as they count towards the bound, reports of drops."""

    events: int
    bytes: int
    reports: int


class Spool:
    """The batches, single events and reports of drops in one file. All methods raise SpoolError if it can't be used."""

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
        """`max_bytes` bounds the payload; SQLite's file is about a tenth larger.

        `clock` gives seconds that all processes of the host share and nobody sets back, for the claims; `wall_clock`
        gives epoch seconds, for people.
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
        """The spool these options name."""
        return cls(
            spool_path(options),
            max_bytes=options.spool_bytes,
            drop_oldest=options.drop_policy == "oldest",
            busy_seconds=busy_seconds,
        )

    def exists(self) -> bool:
        """Whether anything was ever spooled here."""
        return self._file.exists()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def add(self, batches: Sequence[PackedBatch]) -> tuple[int, Drops]:
        """Keep batches. A batch that is there already is kept once.

        Returns:
            How many events were kept, and what was given up because the spool is full.
        """
        kept = 0
        dropped: dict[tuple[str, str], int] = {}
        with self._file.transaction() as db:
            for batch in batches:
                if self._has_room(db, len(batch.data), dropped):
                    self._insert(db, batch)
                    kept += batch.events
                else:
                    _add(dropped, batch.event_type, "spool_full", batch.events)
        return kept, dropped

    def add_event(self, event_type: str, line: bytes, dropped_fields: int) -> Drops:
        """Keep a single event; returns what was given up because the spool is full."""
        dropped: dict[tuple[str, str], int] = {}
        with self._file.transaction() as db:
            if not self._insert_event(db, event_type, line, dropped_fields) and not (
                self._has_room(db, len(line), dropped) and self._insert_event(db, event_type, line, dropped_fields)
            ):
                _add(dropped, event_type, "spool_full", 1)
        return dropped

    def collect(self, *, batch_events: int, batch_bytes: int, compression: int) -> tuple[list[PackedBatch], int]:
        """Pack single events, oldest first, into batches that are held by this process; and their dropped fields."""
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
        """The oldest batches nobody holds, up to about `max_events`, now held by this process.

        Returns:
            The batches, and what was damaged on disk and could not be read back.
        """
        claimed: list[PackedBatch] = []
        unreadable: dict[tuple[str, str], int] = {}
        with self._file.transaction() as db:
            now = self._clock()  # only here: a claim made while this one waited ends later than it seems it can
            rows = db.execute(
                "SELECT seq, id, event_type, events, size, data, crc, retried, holder FROM batches "
                f"WHERE {FREE} ORDER BY seq",
                {"now": now},
            )
            events = size = 0
            held = []
            for seq, batch_id, event_type, count, packed_size, data, crc, retried, holder in rows:
                if claimed and (events + count > max_events or size + len(data) > CLAIM_BYTES):
                    break
                if zlib.crc32(data) != crc:
                    _add(unreadable, event_type, "spool_unreadable", count)
                    held.append((seq, False))
                    continue
                # A holder on a batch whose claim ran out died, or was stopped, while it sent the batch.
                batch = PackedBatch(
                    id=batch_id, event_type=event_type, events=count, size=packed_size, data=data, retried=bool(retried)
                )
                claimed.append(mark_retried(batch) if holder and not retried else batch)
                held.append((seq, True))
                events += count
                size += len(data)
            rows.close()
            for seq, readable in held:
                if readable:
                    self._hold(db, seq, now)
                else:
                    db.execute("DELETE FROM batches WHERE seq = ?", (seq,))
        return claimed, unreadable

    def settle(self, batches: Iterable[PackedBatch]) -> None:
        """Redis has these: forget them."""
        with self._file.transaction() as db:
            db.executemany(
                "DELETE FROM batches WHERE id = ? AND holder = ?", [(batch.id, self._holder) for batch in batches]
            )

    def release(self, batches: Iterable[PackedBatch], *, unsure: bool) -> None:
        """Redis did not take these (or `unsure`: it may have); anyone may claim them again."""
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
        """Keep a report of drops until Redis is back; it is small and has room always."""
        rows = [[event_type, reason, events] for (event_type, reason), events in drops.items()]
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO reports (id, drops) VALUES (?, ?)", (report_id, orjson.dumps(rows).decode())
            )

    def claim_report(self) -> tuple[str, Drops] | None:
        """A report of drops, held by this process for LEASE_SECONDS, or None if there is none."""
        with self._file.transaction() as db:
            now = self._clock()
            row = db.execute(f"SELECT id, drops FROM reports WHERE {FREE} LIMIT 1", {"now": now}).fetchone()
            if row is None:
                return None
            db.execute("UPDATE reports SET held_until = ? WHERE id = ?", (now + LEASE_SECONDS, row[0]))
        return row[0], {(event_type, reason): events for event_type, reason, events in orjson.loads(row[1])}

    def settle_report(self, report_id: str) -> None:
        """The ledger has this report: forget it."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM reports WHERE id = ?", (report_id,))

    def totals(self) -> Totals:
        """What the spool holds."""
        with self._file.snapshot() as db:
            row = db.execute("SELECT bytes, events, (SELECT count(*) FROM reports) FROM totals").fetchone()
        return Totals(bytes=row[0], events=row[1], reports=row[2])

    def oldest_age(self) -> float:
        """Seconds that the oldest batch has waited; 0 where there is none."""
        with self._file.snapshot() as db:
            row = db.execute("SELECT min(added) FROM batches").fetchone()
        return max(0.0, self._wall_clock() - row[0]) if row[0] is not None else 0.0

    def check(self) -> Path:
        """Where it is, once it is sure that it can be written."""
        return self._file.check()

    def has_room(self) -> bool:
        """Whether a small batch would be kept without giving up another."""
        return self.totals().bytes + ROW_OVERHEAD < self._max_bytes

    def batches(self) -> list[SpooledBatch]:
        """Every batch, oldest first; then the single events of each type, under no id and with no time."""
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
        """Give the space of deleted batches back to the disk."""
        with self._file.transaction() as db:
            db.execute("PRAGMA incremental_vacuum").fetchall()

    def _hold(self, db: sqlite3.Connection, seq: int, now: float) -> None:
        db.execute(
            "UPDATE batches SET holder = ?, held_until = ? WHERE seq = ?", (self._holder, now + LEASE_SECONDS, seq)
        )

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

    def _has_room(self, db: sqlite3.Connection, size: int, dropped: dict[tuple[str, str], int]) -> bool:
        """Whether `size` bytes fit; with the policy "oldest", make room by giving up the oldest nobody holds."""
        while db.execute("SELECT bytes FROM totals").fetchone()[0] + size + ROW_OVERHEAD > self._max_bytes:
            if not self._drop_oldest:
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
            _add(dropped, oldest[1], "spool_full", oldest[2])
        return True


def _add(drops: dict[tuple[str, str], int], event_type: str, reason: str, events: int) -> None:
    drops[event_type, reason] = drops.get((event_type, reason), 0) + events
