"""`birdfeed prices reprice`: price stored rows again with today's price books."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.errors import ConfigurationError, QueryError, QuotaError
from birdfeed_worker.operations.reprice.corrections import CorrectionError, Corrections
from birdfeed_worker.operations.reprice.judge import REASONS
from birdfeed_worker.operations.reprice.row_reader import NotOursError, Selection
from birdfeed_worker.operations.reprice.run import Counters, RetryingReader, Table, open_table, scan
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.money import plain
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.wiring import book_source_of
from redis.exceptions import RedisError
from rich.progress import Progress
from rich.table import Table as Rows

from birdfeed_cli.common.confirm import confirm, must_be_answerable
from birdfeed_cli.common.console import OK, PARTLY, UNREACHABLE, err, fail, out, print_json, warn
from birdfeed_cli.common.errors import Unreachable, WrongUse, store_code
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.store_access import open_store


def run_reprice(
    since: datetime,
    until: datetime | None,
    models: list[str] | None,
    *,
    dry_run: bool,
    yes: bool,
    limit: int | None,
    as_json: bool,
) -> int:
    """Show the difference, ask, write the corrections. Exit code 1 if rows or a table could not be repriced."""
    now = datetime.now(UTC)
    selection = Selection(since=since, until=until or now, models=tuple(models or ()))
    if selection.since >= selection.until:
        raise WrongUse("--since must be before --until")
    must_be_answerable(yes=yes or dry_run, as_json=as_json)
    settings = WorkerSettings.load()
    books = book_source_of(settings).current()
    store = open_store(settings, write=not dry_run)
    with store, Corrections(store, rows=settings.request_rows, size=settings.request_bytes) as corrections:
        run = Run(store, books, selection, corrections, now, as_json)
        try:
            return run.run(dry_run=dry_run, yes=yes, limit=limit)
        except QuotaError as error:
            return fail(f"{error}; run the same command then: it skips what is already corrected", UNREACHABLE)
        except (QueryError, CorrectionError) as error:
            done = counted(run.written, "correction is written", "corrections are written")
            written = f"; {done}; run the same command again to continue" if run.written else ""
            return fail(f"{error}{written}", store_code(error) if isinstance(error, QueryError) else UNREACHABLE)


@dataclass(slots=True)
class Run:
    """One run of the command."""

    store: Tinybird
    books: Books
    selection: Selection
    corrections: Corrections
    now: datetime
    as_json: bool
    tally: Counters = field(default_factory=Counters)
    written: int = 0
    refused_tables: list[str] = field(default_factory=list)

    def run(self, *, dry_run: bool, yes: bool, limit: int | None) -> int:
        """Read, show, ask, write; returns the exit code."""
        self._read(limit)
        if not self.as_json:
            self._show()
        wanted = bool(self.tally.corrections) and not dry_run
        if wanted:
            confirm(f"Write {counted(self.tally.corrections, 'correction')}?", yes=yes)
            self._note("reprice begins", corrections=self.tally.corrections)
            try:
                self._write()
            finally:
                self._note("reprice ends", written=self.written)
        if self.as_json:
            print_json(self._json(dry_run=dry_run))
        elif wanted:
            out.print(counted(self.written, "correction is written", "corrections are written"))
        return PARTLY if self.tally.refused or self.refused_tables else OK

    def _note(self, action: str, **counts: int) -> None:
        """Record in the audit log who repriced what; without a Redis, only warn."""
        selection = self.selection
        details: dict[str, Any] = {"since": selection.since.isoformat(), "until": selection.until.isoformat()}
        try:
            connection, keys = open_redis()
            note(connection, keys, action, **details, models=list(selection.models), **counts)
        except (Unreachable, ConfigurationError, RedisError) as error:
            warn(f"not recorded for `birdfeed dead log`: {error}")

    def _read(self, limit: int | None) -> None:
        reader = RetryingReader(self.store)
        tables: list[Table] = []
        for datasource in datasources():
            try:
                tables.append(open_table(reader, datasource, self.selection))
            except NotOursError as error:
                self.refused_tables.append(str(error))
                warn(str(error))
        with Progress(console=err, transient=True, disable=self.as_json) as progress:
            task = progress.add_task("reading", total=sum(table.events for table in tables))
            for table in tables:
                for judged in scan(table, self.books, self.now, self.corrections, self.tally, limit):
                    progress.advance(task, judged)

    def _write(self) -> None:
        with Progress(console=err, transient=True, disable=self.as_json) as progress:
            task = progress.add_task("writing", total=self.tally.corrections)
            for rows in self.corrections.send(time.sleep):
                self.written += rows
                progress.advance(task, rows)

    def _show(self) -> None:
        tally, total = self.tally, self.tally.total
        span = f"{self.selection.since:%Y-%m-%d %H:%M} to {self.selection.until:%Y-%m-%d %H:%M} UTC"
        out.print(f"{counted(tally.events, 'event')}, {span}")
        if tally.models:
            rows = Rows("model")
            for name in ("rows", "old cost", "new cost", "difference"):
                rows.add_column(name, justify="right")
            ordered = sorted(tally.models.items(), key=lambda entry: -abs(entry[1].new - entry[1].old))
            for model, part in [*ordered, ("all", total)]:
                rows.add_row(
                    model, f"{part.rows:,}", plain(part.old), plain(part.new), f"{_signed(part.old, part.new)}"
                )
            out.print(rows)
        else:
            out.print("no row's price has changed")
        if tally.limited:
            out.print(f"the limit of {counted(tally.corrections, 'correction')} is reached; there may be more")
        for counts, what in ((tally.unchanged, "unchanged"), (tally.refused, "refused")):
            for reason, count in counts.most_common():
                out.print(f"{count:,} {what}: {REASONS[reason]}", soft_wrap=True)

    def _json(self, *, dry_run: bool) -> dict[str, Any]:
        tally = self.tally
        return {
            "since": self.selection.since.isoformat(),
            "until": self.selection.until.isoformat(),
            "dry_run": dry_run,
            "events": tally.events,
            "corrections": tally.corrections,
            "written": self.written,
            "limited": tally.limited,
            "old_cost": plain(tally.total.old),
            "new_cost": plain(tally.total.new),
            "models": [
                {"model": model, "rows": part.rows, "old_cost": plain(part.old), "new_cost": plain(part.new)}
                for model, part in tally.models.items()
            ],
            "unchanged": dict(tally.unchanged.most_common()),
            "refused": dict(tally.refused.most_common()),
            "refused_tables": self.refused_tables,
        }


def _signed(old: Any, new: Any) -> str:
    return ("+" if new >= old else "-") + plain(abs(new - old))
