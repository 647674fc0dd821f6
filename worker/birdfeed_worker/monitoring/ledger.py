"""Ledger: every accepted event is written, dead, dropped, purged, or in flight; if not, it was lost or duplicated.

The counts change in the same step as what they count. Events in flight are not counted but computed from the jobs, so
that the two sides check each other.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from birdfeed_schemas.wire.accounts import account_of
from birdfeed_schemas.wire.keys import EVENTS_FIELD, REASON_FIELD, TYPE_FIELD, Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.queue.reply import as_text, number, pairs, whole
from birdfeed_worker.queue.reserve import MOST_EVENTS
from birdfeed_worker.queue.scripts import script

#: Jobs read in one step, which takes Redis 10 ms. If there are more, reading takes many steps and may be inconsistent.
CONSISTENT_JOBS: Final = 2_000
#: Jobs read in one step of a read with many steps.
PAGE: Final = 1_000

#: Anomaly of an entry of the queue or a registry → its description after the number 1, and after other numbers.
ANOMALIES: Final[Mapping[str, tuple[str, str]]] = {
    "orphaned": (
        "entry of the queue or a registry has no job: the job's key was deleted or evicted",
        "entries of the queue or a registry have no job: the jobs' keys were deleted or evicted",
    ),
    "stray": (
        "job in the queue or a registry has a status that doesn't belong there: another tool changed it",
        "jobs in the queue or a registry have a status that doesn't belong there: another tool changed them",
    ),
    "requeued": (
        "dead letter was requeued by rq and waits; it counts as dead until a worker takes it",
        "dead letters were requeued by rq and wait; they count as dead until a worker takes them",
    ),
    "foreign": (
        "job in the queue was not made by birdfeed's producer; it is counted when a worker takes it",
        "jobs in the queue were not made by birdfeed's producer; they are counted when a worker takes them",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One event type's events. `dead` and `dropped` are by reason."""

    accepted: int = 0
    written: int = 0
    dead: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    purged: int = 0
    in_flight: int = 0

    @property
    def missing(self) -> int:
        """Accepted events that are nowhere; if below 0, events that are somewhere but were never accepted."""
        there = self.written + sum(self.dead.values()) + sum(self.dropped.values()) + self.purged + self.in_flight
        return self.accepted - there


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The accounts by event type, and anomalies (name of ANOMALIES → jobs).

    `requeued` are events, by "type:reason", that rq put back and that count as dead until a worker reserves them.
    `consistent` says that all of it was read in one step, or that nothing moved while it was read. `totals` are counts
    that only grow (see totals_of).
    """

    accounts: Mapping[str, Account]
    anomalies: Mapping[str, int]
    totals: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    requeued: Mapping[str, int] = field(default_factory=dict)
    consistent: bool = True

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for."""
        return all(account.missing == 0 for account in self.accounts.values())

    @property
    def total(self) -> Account:
        """All event types together."""
        dead, dropped = Counter[str](), Counter[str]()
        for account in self.accounts.values():
            dead.update(account.dead)
            dropped.update(account.dropped)
        return Account(
            accepted=sum(account.accepted for account in self.accounts.values()),
            written=sum(account.written for account in self.accounts.values()),
            dead=dict(dead),
            dropped=dict(dropped),
            purged=sum(account.purged for account in self.accounts.values()),
            in_flight=sum(account.in_flight for account in self.accounts.values()),
        )


def accounts_of(counts: Mapping[str, int], in_flight: Mapping[str, int]) -> dict[str, Account]:
    """Accounts from the ledger's hash and the events in flight by type. Pure; unknown fields are ignored."""
    plain: dict[str, Counter[str]] = {event_type: Counter() for event_type in in_flight}
    reasons: dict[str, dict[str, dict[str, int]]] = {}
    for name, amount in counts.items():
        kind, _, rest = name.partition(":")
        if kind in {"accepted", "written", "purged"}:
            plain.setdefault(rest, Counter())[kind] = amount
        elif kind in {"dead", "dropped"} and amount:
            # Reasons contain no colon, but an unregistered type may.
            event_type, _, reason = rest.rpartition(":")
            plain.setdefault(event_type, Counter())
            reasons.setdefault(event_type, {}).setdefault(kind, {})[reason] = amount
    return {
        event_type: Account(
            accepted=has["accepted"],
            written=has["written"],
            dead=reasons.get(event_type, {}).get("dead", {}),
            dropped=reasons.get(event_type, {}).get("dropped", {}),
            purged=has["purged"],
            in_flight=in_flight.get(event_type, 0),
        )
        for event_type, has in sorted(plain.items())
    }


def totals_of(counts: Mapping[str, int]) -> dict[tuple[str, str, str], int]:
    """Events ever accepted, written, dead, dropped and purged: (which of these, event type, reason or "") → events.

    They are computed from the ledger's hash, whose counts fall when an event moves on: the hash also holds by how much
    they fell, and the sum only grows. An event that was enqueued twice, died twice or changed its type counts each
    time. Events purged by an older birdfeed, which stored no reason, have the reason "". Pure.
    """
    totals = Counter[tuple[str, str, str]]()
    for name, amount in counts.items():
        kind, _, rest = name.removeprefix("fell:").partition(":")
        if kind in {"accepted", "written", "purged"}:
            totals[kind, rest, ""] += amount
        elif kind in {"dead", "dropped"}:
            event_type, _, reason = rest.rpartition(":")
            totals[kind, event_type, reason] += amount
        elif kind == "purged_as":
            event_type, _, reason = rest.rpartition(":")
            totals["purged", event_type, reason] += amount
            totals["purged", event_type, ""] -= amount
    return {key: max(0, amount) for key, amount in totals.items()}


def read_ledger(
    connection: Redis, keys: Keys, consistent_jobs: int = CONSISTENT_JOBS, *, quick: bool = False
) -> Ledger:
    """Read the ledger: in one step if there are not too many jobs, else in many, with the counts read twice.

    With `quick` it always takes one step: if there are too many jobs, what is missing from the sum is assumed to be in
    flight, and the ledger isn't consistent.
    """
    counts, flight, anomalies, requeued, too_many = script(connection, keys, "ledger")(consistent_jobs)
    if too_many and not quick:
        return _long_look(connection, keys)
    counted, in_flight = _counts(counts), _counts(flight)
    if too_many:
        in_flight = {name: account.missing for name, account in accounts_of(counted, {}).items()}
    return Ledger(
        accounts=accounts_of(counted, in_flight),
        anomalies=_counts(anomalies),
        totals=totals_of(counted),
        requeued=_counts(requeued),
        consistent=not too_many,
    )


def _long_look(connection: Redis, keys: Keys) -> Ledger:
    before = _state(connection, keys)
    seen: set[str] = set()
    flight, anomalies, requeued = Counter[str](), Counter[str](), Counter[str]()
    for ids in under_way(connection, keys):
        fresh = [job_id for job_id in dict.fromkeys(ids) if job_id not in seen]
        seen.update(fresh)
        with connection.pipeline(transaction=False) as pipe:
            for job_id in fresh:
                pipe.hmget(keys.job(job_id), "status", EVENTS_FIELD, TYPE_FIELD, REASON_FIELD)
            for status, events, event_type, reason in pipe.execute():
                if status is None:
                    anomalies["orphaned"] += 1
                elif status not in {b"queued", b"started", b"scheduled"}:
                    anomalies["stray"] += 1
                elif reason:
                    anomalies["requeued"] += 1
                    name = account_of(before[0], as_text(event_type or b"unknown"))
                    requeued[f"{name}:{as_text(reason)}"] += number(events, 1, MOST_EVENTS)
                elif events is None:
                    anomalies["foreign"] += 1
                else:
                    flight[account_of(before[0], as_text(event_type or b"unknown"))] += number(events, 1, MOST_EVENTS)
    after = _state(connection, keys)
    return Ledger(
        accounts=accounts_of(after[0], flight),
        anomalies=anomalies,
        totals=totals_of(after[0]),
        requeued=requeued,
        consistent=before == after,
    )


def _state(connection: Redis, keys: Keys) -> tuple[dict[str, int], Any]:
    # A script reads all at one time. MULTI would not do: a full Redis refuses even reads in it.
    counts, sizes, *_ = script(connection, keys, "ledger")(-1)
    return _counts(counts), sizes


def under_way(connection: Redis, keys: Keys) -> Iterator[Sequence[str]]:
    """Pages of the ids of the jobs in the queue, in flight and scheduled; an id may appear twice."""
    start = 0
    while page := connection.lrange(keys.queue_list, start, start + PAGE - 1):
        yield [as_text(job_id) for job_id in page]
        start += PAGE
    for registry in (keys.started, keys.scheduled):
        # Entries of the started registry are "job:execution"; the others are only ids.
        members = connection.zscan_iter(registry, count=PAGE)
        yield from batched((as_text(member).partition(":")[0] for member, _ in members), PAGE)


def _counts(flat: list[Any]) -> dict[str, int]:
    return {as_text(name): whole(amount) for name, amount in pairs(flat)}
