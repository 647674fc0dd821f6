"""Erase one person's rows from Tinybird, in the tables and their quarantines.

Tinybird deletes by a condition, in a job: `POST /v0/datasources/NAME/delete`.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.lookup import sql_text

#: Columns that name a person.
COLUMNS: Final = ("user", "username")
#: Seconds for which a job is waited for, and seconds between two checks of it.
JOB_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One delete: the table, the condition, and how many rows match it now."""

    table: str
    condition: str
    rows: int

    def command(self, host: str) -> str:
        """The delete as a shell command; the shell must have the token in TINYBIRD_DELETE_TOKEN."""
        url = shlex.quote(f"{host}/v0/datasources/{self.table}/delete")
        condition = shlex.quote(f"delete_condition={self.condition}")
        return f'curl -X POST -H "Authorization: Bearer $TINYBIRD_DELETE_TOKEN" --data-urlencode {condition} {url}'


def condition_of(values: Iterable[str], columns: Iterable[str] = COLUMNS) -> str:
    """The condition that a person's rows match."""
    listed = ", ".join(map(sql_text, sorted(values)))
    return " OR ".join(f"`{column}` IN ({listed})" for column in columns)


def deletions(tinybird: Tinybird, tables: Sequence[str], values: Iterable[str]) -> Iterator[Deletion]:
    """What there is to delete, table by table. Raises QuotaError and QueryError."""
    chosen = frozenset(values)
    for table in tables:
        known = [name for name in COLUMNS if name in tinybird.columns(table)]
        if not known:
            continue
        condition = condition_of(chosen, known)
        for name in (table, f"{table}_quarantine"):
            try:
                answered = tinybird.query(f"SELECT toString(count()) AS n FROM {name} WHERE {condition}")
                rows = int(answered[0]["n"])
            except QueryError as error:
                if name != table and error.status in (400, 404):
                    continue  # there is no quarantine table: nothing was ever quarantined
                raise
            except (IndexError, KeyError, TypeError, ValueError):
                raise QueryError(200, "the answer is not the count that was asked for") from None
            yield Deletion(table=name, condition=condition, rows=rows)


def carry_out(deleter: Tinybird, deletion: Deletion, clock: Clock) -> str:
    """Delete, and wait for the job; returns "done", or its last state. Raises QueryError."""
    job = deleter.delete_rows(deletion.table, deletion.condition)
    deadline = clock.monotonic() + JOB_SECONDS
    while True:
        state = deleter.job_state(job)
        if state.status not in ("waiting", "working") or clock.monotonic() >= deadline or clock.stop.is_set():
            return state.status
        clock.sleep(LOOK_SECONDS)
