"""The journal: every request, its answer, and what was written; tests read it afterwards."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

#: Entries kept; older ones are removed, but the counters stay.
KEPT: Final = 20_000


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request.

    Attributes:
        id: 1, 2, 3, ... in the order of arrival.
        time: When it arrived, in seconds since 1970.
        method, path: The request's.
        datasource: The data source (events) or pipe that it named.
        body_bytes, body_sha256: Length and hash of the body as it was sent, compressed or not.
        rows: Rows in the body, if they were counted.
        successful_rows, quarantined_rows: What was really written, whatever the answer said.
        written_at: When it was written, in seconds since 1970; None: nothing was written.
        faults: The switches that were on for it.
        status: The answer's status; None while there is no answer.
        answered_at: When it was answered, in seconds since 1970.
        client_gone: The client disconnected before there was an answer.
    """

    id: int
    time: float
    method: str
    path: str
    datasource: str | None = None
    body_bytes: int = 0
    body_sha256: str = ""
    rows: int | None = None
    successful_rows: int = 0
    quarantined_rows: int = 0
    written_at: float | None = None
    faults: list[str] = field(default_factory=list)
    status: int | None = None
    answered_at: float | None = None
    client_gone: bool = False


class Journal:
    """The entries, and counters over all of them."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._requests = 0
        self._statuses: Counter[str] = Counter()
        self._serial = 0

    def open(self, *, time: float, method: str, path: str) -> Entry:
        """An entry for a request that has just arrived."""
        self._serial += 1
        self._requests += 1
        entry = Entry(id=self._serial, time=time, method=method, path=path)
        self._entries.append(entry)
        return entry

    def answered(self, entry: Entry, status: int | None, time: float) -> None:
        """Record how a request ended: with a status, or (None) without an answer."""
        entry.status = status
        entry.answered_at = None if status is None else time
        self._statuses["none" if status is None else str(status)] += 1

    def clear(self) -> None:
        """Remove all entries; ids continue."""
        self._entries.clear()
        self._statuses.clear()
        self._requests = 0

    def report(self, *, since: int = 0) -> dict[str, Any]:
        """Counters, and the entries with an id above `since`, as JSON values."""
        return {
            "requests": self._requests,
            "statuses": dict(self._statuses),
            "log": [asdict(entry) for entry in self._entries if entry.id > since],
        }
