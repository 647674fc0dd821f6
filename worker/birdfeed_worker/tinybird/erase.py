"""Erase: the deletes that take one person's rows out of Tinybird, from the tables and their quarantines.

Tinybird deletes by a condition, in a job of its own: `POST /v0/datasources/NAME/delete`.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird

#: Columns that name a person.
COLUMNS: Final = ("user", "username")
#: Seconds a job may take until it is left to itself, and between two looks at it.
JOB_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One delete: the table, the condition, and how many rows fit it now."""

    table: str
    condition: str
    rows: int

    def command(self, host: str) -> str:
        """The same as a command for a shell that has the token in TINYBIRD_DELETE_TOKEN."""
        url = shlex.quote(f"{host}/v0/datasources/{self.table}/delete")
        condition = shlex.quote(f"delete_condition={self.condition}")
        return f'curl -X POST -H "Authorization: Bearer $TINYBIRD_DELETE_TOKEN" --data-urlencode {condition} {url}'


def literal(text: str) -> str:
    """Text as SQL writes it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def condition_of(values: Iterable[str], columns: Iterable[str] = COLUMNS) -> str:
    """The condition that a person's rows fit."""
    listed = ", ".join(map(literal, sorted(values)))
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
                    continue  # nothing was ever quarantined
                raise
            except (IndexError, KeyError, TypeError, ValueError):
                raise QueryError(200, "the answer is not the count that was asked for") from None
            yield Deletion(table=name, condition=condition, rows=rows)


def carry_out(deleter: Tinybird, deletion: Deletion, clock: Clock) -> str:
    """Delete, and wait for the end: done, or the state in which the job was left. Raises QueryError."""
    job = deleter.delete_rows(deletion.table, deletion.condition)
    deadline = clock.monotonic() + JOB_SECONDS
    while True:
        state = deleter.job_state(job)
        if state.status not in ("waiting", "working") or clock.monotonic() >= deadline or clock.stop.is_set():
            return state.status
        clock.sleep(LOOK_SECONDS)
