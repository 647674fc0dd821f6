"""What the stages pass on: a job reserved from the queue, its events, and the outcome of each.

Every event gets exactly one outcome in one delivery.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Protocol, TypeAlias

from birdfeed_schemas.events import Event
from birdfeed_schemas.typed.lines import Line
from birdfeed_schemas.wire.envelope import Envelope, Header
from msgspec import Struct

#: Key that holds how many replicas a worker found, of how many it needs; and the seconds for which it is kept.
UNREPLICATED: Final = "unreplicated"
UNREPLICATED_SECONDS: Final = 10


class Written(Struct, frozen=True, gc=False, cache_hash=True):
    """The event is in Tinybird. Its hash is cached, as a header's is.

    `already_stored`: it was found there, written by an earlier try. `duplicate_enqueue`: the earlier try belonged to
    another enqueue, whose answer the producer never got, so that the event was accepted twice.
    """

    already_stored: bool = False
    duplicate_enqueue: bool = False


class Dead(Struct, frozen=True, gc=False):
    """The event can't be written as it is: `reason` is a short code, `detail` one sentence without event data."""

    reason: str
    detail: str


class Deferred(Struct, frozen=True, gc=False):
    """The event waits until `until` (epoch s; 0: it goes to the front of the queue now).

    `maybe_written_since` (epoch s) is set if it was sent and the outcome is unknown: Tinybird is asked before the next
    try.
    """

    until: float = 0.0
    maybe_written_since: float | None = None


Outcome: TypeAlias = Written | Dead | Deferred


#: Events that kill a worker process: job id and line (from 0); line None is a job that kills it when it is opened.
PoisonEvents: TypeAlias = frozenset[tuple[str, int | None]]
NO_POISON: Final[PoisonEvents] = frozenset()
POISON: Final = Dead("kills_worker", "this event alone crashed three worker processes; no worker processes it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedJob:
    """A job in flight. Times are epoch seconds by Redis's clock; attempts count from 1.

    `data` is rq's job data as it is in Redis (zlib over JSON). `maybe_written_since` is when rows of this job were last
    sent without an answer, or None; 0: at any time. `events` and `event_type` are the producer's values, for jobs that
    can't be decoded. `suspect` counts the workers that died with it in flight. `unknowns` counts how often its outcome
    was unknown while its destination took other rows, `spent` the seconds that this lasted.
    """

    id: str
    execution: str
    data: bytes
    event_type: str
    events: int
    size: int
    attempts: int
    first_reserved: float
    maybe_written_since: float | None = None
    suspect: int = 0
    unknowns: int = 0
    spent: float = 0.0


class Lines(Protocol):
    """The lines of a job, by number from 0."""

    def __getitem__(self, number: int) -> bytes: ...


class Item(Struct, gc=False):
    """One event in flight: the job it came in, its line, and the results of the stages so far.

    `source` is the line, or an object that returns it by its `number`, because few lines are needed again. `event` is
    set once the event is known to be valid; if the line was typed when it was decoded, from then on.
    """

    job_id: str
    header: Header
    source: "bytes | Lines"
    envelope: Envelope | Line | None = None
    row: bytes = b""
    outcome: Outcome | None = None
    verify: bool = False
    cost_status: str = ""
    event: Event | None = None
    number: int = 0

    @property
    def line(self) -> bytes:
        """The event's line in the wire format."""
        return self.source if isinstance(self.source, bytes) else self.source[self.number]

    @property
    def event_id(self) -> str:
        """The event's id; "" for an unreadable line."""
        return "" if self.envelope is None else self.envelope.event_id


def release(items: Iterable[Item]) -> None:
    """Release what the items' rows were made from, once they are made. The events' identities stay."""
    for item in items:
        item.event = None
        if item.envelope is not None:
            item.envelope.data = _GONE


_GONE: Final[dict[str, Any]] = {}
#: (header, outcome, cost status) → number of items.
Counted: TypeAlias = Counter[tuple[Header, Outcome | None, str]]
_SAME: Final = attrgetter("header", "outcome", "cost_status")


def count_outcomes(items: Iterable[Item]) -> Counted:
    """Count items by header, outcome and cost status: few entries, however many items there are."""
    return Counter(map(_SAME, items))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A job that is not a valid batch: it is dead-lettered whole, with its data unchanged."""

    job: ReservedJob
    reason: str
    detail: str


@dataclass(slots=True)
class Decoded:
    """What a set of jobs holds. `newer` are jobs of a wire version that this worker can't read yet; `failed` are jobs
    on which birdfeed's own code failed, each with the time (epoch s) until which it waits.
    """

    items: list[Item] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    newer: list[tuple[ReservedJob, int]] = field(default_factory=list)
    failed: list[tuple[ReservedJob, float]] = field(default_factory=list)

    def extend(self, more: "Decoded") -> None:
        """Add the content of other jobs."""
        self.items += more.items
        self.unreadable += more.unreadable
        self.newer += more.newer
        self.failed += more.failed
