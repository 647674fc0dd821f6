"""The data model of the status: what is known about the whole system at one time, and what follows from it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from birdfeed_schemas.safety.redis_facts import RedisFacts

from birdfeed_worker.flow.circuit_breaker import Trip
from birdfeed_worker.flow.destinations import Destination
from birdfeed_worker.flow.refusals import Refusal
from birdfeed_worker.flow.verification import Unanswered
from birdfeed_worker.monitoring.depth import Depth
from birdfeed_worker.monitoring.ledger import Ledger
from birdfeed_worker.monitoring.producers import HostSpool, Producer


class Health(IntEnum):
    """Health, as exit codes: 0 healthy; 1 something is not as it should be; 3 nothing is delivered."""

    HEALTHY = 0
    DEGRADED = 1
    DOWN = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that finds one kind of problem.

    Attributes:
        name: A metric's label, in snake_case.
        threshold: When the rule applies, in words.
        section: The runbook's section about it.
        find: Returns the messages; empty if all is well.
        health: The health when it applies; HEALTHY means that it is reported but changes nothing.
        blocks: Whether nothing is written while it applies; then no pool is ready. (A launcher knows its own workers.)
    """

    name: str
    threshold: str
    section: str
    find: Callable[["Status"], Iterable[str]]
    health: Health = Health.DEGRADED
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: the rule that found it, and a message."""

    rule: Rule
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker process: its host, its state, its jobs in flight, and the number of jobs done since its start.

    `silent` is the seconds since its last heartbeat.
    """

    name: str
    host: str
    pid: int
    state: str
    in_flight: int
    done: int
    silent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReason:
    """Dead events of one reason, and for how many seconds the oldest has been dead (None: it was not found)."""

    events: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Events per second over the last `seconds`."""

    accepted: float
    written: float
    dead: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that `birdfeed status` shows. Times are seconds from now; `lag` is the age of the oldest job.

    `disabled` maps types whose circuit breaker is disabled to the time (epoch s) until which it is.

    `refusals` are workers whose tokens are refused, `unanswered` data sources that don't answer which events they have,
    and `mismatches` are messages about Tinybird's columns that differ from what is sent. `producers` are the live ones,
    `spools` those that aren't empty. `minutes` are the counts of the last hour, the current minute last (minutes.py).
    `findings` and `health` are the verdict (verdict.py).

    `unreplicated` is how many replicas a worker found lately, of how many it needs; empty if there are enough.
    """

    depth: Depth
    lag: float | None
    next_due: float | None
    rates: Rates | None
    workers: Sequence[WorkerState]
    destinations: Mapping[str, Destination]
    tripped: Mapping[str, Trip]
    dead: Mapping[str, DeadReason]
    dead_bytes: int | None
    costs: Mapping[str, int]
    ledger: Ledger
    now: float
    unreplicated: str = ""
    disabled: Mapping[str, float] = field(default_factory=dict)
    redis: RedisFacts = field(default_factory=RedisFacts)
    refusals: Sequence[Refusal] = ()
    unanswered: Mapping[str, Unanswered] = field(default_factory=dict)
    mismatches: Sequence[str] = ()
    producers: Sequence[Producer] = ()
    spools: Sequence[HostSpool] = ()
    minutes: Sequence[Counter[str]] = ()
    findings: Sequence[Finding] = ()
    health: Health = Health.HEALTHY

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, one sentence each."""
        return tuple(finding.message for finding in self.findings)

    @property
    def nothing_written(self) -> bool:
        """Whether no event was ever written: healthy then says no more than that nothing has failed."""
        return self.ledger.total.written == 0

    @property
    def unpriced(self) -> float | None:
        """Of the rows that should have a price, the share that could not be priced; None if there are none."""
        rows = sum(amount for status, amount in self.costs.items() if status != "no_usage")
        return self.costs.get("unpriced", 0) / rows if rows else None
