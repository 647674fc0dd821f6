"""Write corrections to Tinybird: collect them on disk as request bodies, then send one after the other.

Sending a body twice is harmless: it holds the same version of the same rows. So after an unknown outcome it is simply
sent again.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import orjson
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.compact_bytes import compact_bytes

from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.flow.backoff import backoff
from birdfeed_worker.operations.reprice.row_reader import Reader
from birdfeed_worker.tinybird.decide import Answer, Done, PartlyQuarantined, Unknown, Wait, decide

#: Months that one request may touch; Tinybird allows 12 partitions.
MAX_MONTHS: Final = 10
#: How often a body is sent before giving up, and the longest wait between two tries, in seconds.
TRIES: Final = 8
LONGEST_WAIT: Final = 60.0


class CorrectionError(BirdfeedError):
    """Corrections can't be written; the message says why. Earlier corrections stay written."""


class Store(Reader, Protocol):
    """The methods of Tinybird's client that are used here."""

    def encode(self, rows: Sequence[bytes]) -> bytes:
        """The body of a request with these rows."""

    def append(self, datasource: str, body: bytes) -> Answer:
        """Send a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The position of a request's body in the file, and what is in it."""

    datasource: str
    offset: int
    length: int
    rows: int
    #: event_id and cost_exact of its first row, to read that row back.
    event_id: str
    cost: str


class Corrections:
    """Corrections in an unnamed temporary file, which is deleted with this object.

    Args:
        rows, size: Rows and bytes (before compression) of a request at most.
    """

    def __init__(self, store: Store, *, rows: int, size: int) -> None:
        self._store = store
        self._most_rows = rows
        self._most_bytes = size
        self._file = tempfile.TemporaryFile(prefix="birdfeed-corrections-")  # noqa: SIM115 - __exit__ closes it
        self._waiting: list[bytes] = []
        self._first: dict[str, Any] = {}
        self._size = 0
        self._months: set[str] = set()
        self._datasource = ""
        self.bodies: list[Body] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, datasource: str, row: dict[str, Any]) -> None:
        """Add a correction. The first of each data source becomes a request of its own: the canary."""
        line, month = compact_bytes(orjson.dumps(row)), str(row["occurred_at"])[:7]
        is_new = datasource != self._datasource
        full = len(self._waiting) >= self._most_rows or self._size + len(line) > self._most_bytes
        if is_new or full or len(self._months | {month}) > MAX_MONTHS:
            self.close_body()
        if not self._waiting:
            self._first = row
        self._datasource = datasource
        self._waiting.append(line)
        self._size += len(line) + 1
        self._months.add(month)
        if is_new:
            self.close_body()

    def close_body(self) -> None:
        """Complete the current request."""
        if not self._waiting:
            return
        body = self._store.encode(self._waiting)
        offset = self._file.seek(0, 2)
        self._file.write(body)
        self.bodies.append(
            Body(
                datasource=self._datasource,
                offset=offset,
                length=len(body),
                rows=len(self._waiting),
                event_id=self._first["event_id"],
                cost=self._first["cost_exact"],
            )
        )
        self._waiting, self._size, self._months = [], 0, set()

    def send(self, sleep: Callable[[float], object]) -> Iterator[int]:
        """Write them all; yields the number of rows after each request.

        Raises:
            CorrectionError: Tinybird doesn't accept them, or doesn't replace the previous version of a row.
        """
        seen: set[str] = set()
        for body in self.bodies:
            self._file.seek(body.offset)
            _post(self._store, body, self._file.read(body.length), sleep)
            if body.datasource not in seen:
                seen.add(body.datasource)
                _look(self._store, body)
            yield body.rows


def _post(store: Store, body: Body, data: bytes, sleep: Callable[[float], object]) -> None:
    for attempt in range(1, TRIES + 1):
        decision = decide(store.append(body.datasource, data), body.rows)
        if isinstance(decision, Done):
            return
        if isinstance(decision, PartlyQuarantined):
            raise CorrectionError(
                f"{body.datasource}: Tinybird quarantined {decision.rows} of {body.rows} corrections; their rows stay "
                f"as they were, and the reasons are in {body.datasource}_quarantine"
            )
        if not isinstance(decision, Wait | Unknown) or attempt == TRIES:
            raise CorrectionError(f"{body.datasource}: {decision.reason}")
        asked = decision.seconds if isinstance(decision, Wait) else None
        sleep(min(LONGEST_WAIT, backoff(attempt, base=0.5, cap=LONGEST_WAIT) if asked is None else asked))


def _look(store: Store, body: Body) -> None:
    """Read the canary back: the table must return this version only."""
    found = store.query(
        f"SELECT toString(cost) = toString(toDecimal128('{body.cost}', 12)) AS is_new FROM {body.datasource} FINAL "
        f"WHERE event_id = '{body.event_id}'"
    )
    if [int(row["is_new"]) for row in found] != [1]:
        raise CorrectionError(
            f"{body.datasource} doesn't replace a row by its newer version (event {body.event_id} has "
            f"{counted(len(found), 'row')} after one correction); nothing more is written"
        )
