"""What passes between the stages: a job reserved from the queue, its events, and what became of each.

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

#: Key that says how many replicas a worker found, of how many that it needs, and the seconds for which that is news.
UNREPLICATED: Final = "unreplicated"
UNREPLICATED_SECONDS: Final = 10


class Written(Struct, frozen=True, gc=False, cache_hash=True):
    """It is in the store. Its hash is kept, as a header's is.

    `already_stored`: it was found there, written by an earlier try. `duplicate_enqueue`: that earlier try belonged to
    an enqueue whose answer the producer never got, so that the event was accepted twice.
    """

    already_stored: bool = False
    duplicate_enqueue: bool = False


class Dead(Struct, frozen=True, gc=False):
    """It can't be written as it is: `reason` is a short code, `detail` one sentence without event data."""

    reason: str
    detail: str


class Deferred(Struct, frozen=True, gc=False):
    """It goes back to wait until `until` (epoch s; 0: to the front of the queue now).

    `maybe_written_since` (epoch s) is set where it was sent and the outcome is unknown: the store is asked before the
    next try.
    """

    until: float = 0.0
    maybe_written_since: float | None = None


Outcome: TypeAlias = Written | Dead | Deferred


#: Events that kill a worker process: job id and line from 0, or None for a job that can't even be opened.
PoisonEvents: TypeAlias = frozenset[tuple[str, int | None]]
NO_POISON: Final[PoisonEvents] = frozenset()
POISON: Final = Dead("kills_worker", "this event alone crashed three worker processes; no worker processes it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedJob:
    """A job in flight. Times are epoch seconds by Redis's clock; attempts count from 1.

    `data` is rq's job data as it lies in Redis (zlib over JSON). `maybe_written_since` is when rows of this job were
    last sent with no answer, or None; 0: at any time. `events` and `event_type` are what the producer said, for jobs
    that can't be decoded. `suspect` counts the workers that died with it in flight. `unknowns` counts the times its
    outcome was unknown while its destination took other rows, `spent` the seconds that went by so.
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
    """One event in flight: the job it came with, its line as it travels, and what it has become so far.

    `source` is the line, or what gives it by its `number`: few are asked for theirs. `event` is there once the event is
    known to be valid; where the line was typed as it was decoded, from then on.
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
        """The event as it travels."""
        return self.source if isinstance(self.source, bytes) else self.source[self.number]

    @property
    def event_id(self) -> str:
        """The event's id; nothing for a line that can't be read."""
        return "" if self.envelope is None else self.envelope.event_id


def release(items: Iterable[Item]) -> None:
    """Their rows are made: release what they were made of. Their identity stays."""
    for item in items:
        item.event = None
        if item.envelope is not None:
            item.envelope.data = _GONE


_GONE: Final[dict[str, Any]] = {}
#: Items by header, outcome and cost status.
Counted: TypeAlias = Counter[tuple[Header, Outcome | None, str]]
_SAME: Final = attrgetter("header", "outcome", "cost_status")


def count_outcomes(items: Iterable[Item]) -> Counted:
    """How many items have the same header, outcome and cost status: few entries, however many the items."""
    return Counter(map(_SAME, items))


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A job that is no batch of ours: dead-lettered whole, with its data as it was."""

    job: ReservedJob
    reason: str
    detail: str


@dataclass(slots=True)
class Decoded:
    """What a set of jobs holds. `newer` are jobs of a wire version this worker doesn't read yet; `failed` are those on
    which birdfeed's own code failed, and which wait until an epoch second.
    """

    items: list[Item] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    newer: list[tuple[ReservedJob, int]] = field(default_factory=list)
    failed: list[tuple[ReservedJob, float]] = field(default_factory=list)

    def extend(self, more: "Decoded") -> None:
        """Add what other jobs hold."""
        self.items += more.items
        self.unreadable += more.unreadable
        self.newer += more.newer
        self.failed += more.failed
