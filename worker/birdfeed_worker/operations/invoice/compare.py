"""Compare a bill with the stored rows, line by line: what was billed, what is booked, and what explains a difference.

Models are matched by name, ignoring the vendor's prefix, a date at the end, case, and whether words are joined by dots,
spaces or dashes, so that "Claude Haiku 4.5" on a bill matches claude-haiku-4-5-20251001.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.providers import family_of

from birdfeed_worker.operations.invoice.bill import Bill, Billed
from birdfeed_worker.operations.invoice.stored import CACHE_HIT, DEAD, Booked
from birdfeed_worker.pricing.price.money import EXACT, plain

#: A difference of up to a cent is ignored, because exports are rounded.
CENT: Final = Decimal("0.01")
_DATE: Final = re.compile(r"-(20\d\d)-(\d\d)-(\d\d)$")
_UNDATED: Final = re.compile(r"-20\d{6}$")
_SEPARATORS: Final = re.compile(r"[\s._@]+")
#: cost_status → what it means for a difference, and what to do.
_MEANING: Final[Mapping[str, str]] = {
    "unpriced": "unpriced, so they count as 0: `birdfeed prices missing` says what to add",
    "no_usage": "without usage, so they count as 0: `birdfeed prices missing` lists how it was reported",
    "partial": "partial, so the booked cost is too low: `birdfeed prices missing` says what has no rate",
    "estimated": "estimated: the booked cost may be too low or too high",
    "reported": "booked as the handler or the provider reported them",
}


@dataclass(slots=True, kw_only=True)
class Line:
    """One model on one day.

    Attributes:
        day: UTC.
        model: The bill's name for it, or the rows' if the bill has none. "" if the file names no models.
        billed: What the bill says; None if it has nothing.
        booked_as: The rows' names for it.
        booked: Rows by status, without cache hits, which never reached a provider.
        elsewhere: Other provider → events of this model that are booked for it, and so are not compared.
    """

    day: date
    model: str
    billed: Billed | None = None
    booked_as: set[str] = field(default_factory=set)
    booked: list[Booked] = field(default_factory=list)
    dead: list[Booked] = field(default_factory=list)
    elsewhere: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Number of rows, without dead events."""
        return sum(one.events for one in self.booked)

    @property
    def cost(self) -> Decimal:
        """USD booked."""
        return _total(self.booked)

    @property
    def prompt(self) -> int:
        """Input tokens, cached ones included."""
        return sum(one.prompt for one in self.booked)

    @property
    def completion(self) -> int:
        """Output tokens."""
        return sum(one.completion for one in self.booked)

    @property
    def difference(self) -> Decimal | None:
        """USD booked minus billed; None if the bill has no cost for it."""
        if self.billed is None or self.billed.cost is None:
            return None
        return EXACT.subtract(self.cost, self.billed.cost)

    def agrees(self, tolerance: Decimal, *, by_cost: bool) -> bool:
        """Whether the cost (without costs: tokens and requests) differs by no more than a share of the bill's.

        `by_cost`: whether the bill has costs at all.
        """
        if by_cost:
            billed = self.billed.cost or Decimal(0) if self.billed else Decimal(0)
            return abs(EXACT.subtract(self.cost, billed)) <= max(CENT, EXACT.multiply(abs(billed), tolerance))
        return all(abs(theirs - ours) <= theirs * tolerance for theirs, ours in self._counts())

    def _counts(self) -> Iterator[tuple[int, int]]:
        """The bill's counts, each with the rows'."""
        if self.billed is None:
            yield 0, self.events
            return
        for theirs, ours in (
            (self.billed.prompt, self.prompt),
            (self.billed.completion, self.completion),
            (self.billed.tokens, self.prompt + self.completion),
            (self.billed.requests, self.events),
        ):
            if theirs is not None:
                yield theirs, ours

    def why(self, tolerance: Decimal) -> list[str]:
        """What may explain a difference, one sentence each; the most likely first."""
        return list(self._why(tolerance))

    def _why(self, tolerance: Decimal) -> Iterator[str]:
        statuses = self.by_status()
        explained = False
        for status, meaning in _MEANING.items():
            if status in statuses:
                yield f"{counted(statuses[status][0], 'event')} {meaning}"
                explained = explained or status != "reported"
        if self.dead:
            dead = sum(one.events for one in self.dead)
            yield f"{counted(dead, 'event')} dead, worth {plain(_total(self.dead))} USD: `birdfeed dead list`"
            explained = True
        if self.elsewhere:
            others = ", ".join(f"{count:,} for {name}" for name, count in sorted(self.elsewhere.items()))
            yield f"events of this model that are booked for another provider: {others}"
            explained = True
        if self.billed is None:
            yield "not on the bill: it may belong to another account or another provider"
            return
        missing = list(self._missing(tolerance))
        yield from missing
        if missing or explained:
            return
        if (self.billed.all_tokens or self.billed.requests) and self.difference is not None:
            yield "the counts agree, so the rates differ: compare with `birdfeed prices show`, or look for a discount"
        else:
            yield "every row is priced: other rates (`birdfeed prices show`), a discount, or untracked events"

    def _missing(self, tolerance: Decimal) -> Iterator[str]:
        """What is on the bill, but neither in Tinybird nor in the dead letters."""
        assert self.billed is not None
        if not self.booked and not self.dead:
            yield "missing: no row and no dead event of it on this day"
            return
        dead = sum(one.events for one in self.dead)
        requests = self.billed.requests
        if requests is not None and requests - self.events - dead > requests * tolerance:
            yield f"missing: {counted(requests - self.events - dead, 'request')} neither in the store nor dead"
        tokens = self.billed.all_tokens
        ours = self.prompt + self.completion + sum(one.prompt + one.completion for one in self.dead)
        if tokens is not None and tokens - ours > tokens * tolerance:
            yield f"missing: {counted(tokens - ours, 'token')} neither in the store nor dead"
        elif tokens is not None and ours - tokens > tokens * tolerance:
            yield f"the store has {counted(ours - tokens, 'more token')} than the bill"

    def by_status(self) -> dict[str, tuple[int, Decimal]]:
        """cost_status → events and USD."""
        found: dict[str, tuple[int, Decimal]] = {}
        for one in self.booked:
            events, cost = found.get(one.status, (0, Decimal(0)))
            found[one.status] = events + one.events, EXACT.add(cost, one.cost)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All lines, by day and model; and rows that were left out because they are another provider's, by its name."""

    lines: Sequence[Line]
    has_costs: bool
    left_out: Mapping[str, int]

    @property
    def billed(self) -> Decimal:
        """USD on the bill."""
        return _sum(line.billed.cost for line in self.lines if line.billed is not None)

    @property
    def booked(self) -> Decimal:
        """USD in Tinybird."""
        return _sum(line.cost for line in self.lines)

    def differing(self, tolerance: Decimal) -> list[Line]:
        """Lines that don't agree."""
        return [line for line in self.lines if not line.agrees(tolerance, by_cost=self.has_costs)]


def compare(bill: Bill, booked: Iterable[Booked], provider: str) -> Comparison:
    """Match a bill's lines with what is booked on its days.

    Args:
        booked: Rows and dead events.
        provider: The bill's provider, in any spelling; other providers' rows are left out. "": all rows count.
    """
    family = family_of(provider)
    named = any(line.model for line in bill.lines)
    billed_names: dict[tuple[date, str], set[str]] = {}
    booked_names: dict[tuple[date, str], set[str]] = {}
    ours: list[Booked] = []
    others: list[Booked] = []
    for one in booked:
        own = family_of(one.provider)
        if family and own and own != family:
            others.append(one)
        elif one.status != CACHE_HIT:
            ours.append(one)
            if one.status != DEAD:
                booked_names.setdefault((one.day, _undated(one.model)), set()).add(_plain(one.model))
    for theirs in bill.lines:
        billed_names.setdefault((theirs.day, _undated(theirs.model)), set()).add(_plain(theirs.model))

    def key(day: date, model: str) -> tuple[date, str]:
        if not named:
            return day, ""
        undated = _undated(model)
        # Dates distinguish versions only if the bill and the rows both have them.
        dated = billed_names.get((day, undated)) == booked_names.get((day, undated))
        return day, _plain(model) if dated else undated

    lines: dict[tuple[date, str], Line] = {}
    for theirs in bill.lines:
        place = key(theirs.day, theirs.model)
        line = lines.setdefault(place, Line(day=theirs.day, model=theirs.model))
        line.billed = theirs if line.billed is None else line.billed + theirs
    for one in ours:
        place = key(one.day, one.model)
        if one.status == DEAD:
            if place in lines:
                lines[place].dead.append(one)
            continue
        line = lines.setdefault(place, Line(day=one.day, model=one.model if named else ""))
        line.booked.append(one)
        line.booked_as.add(one.model)
    left_out: dict[str, int] = {}
    for one in others:
        if one.status in (CACHE_HIT, DEAD):
            continue
        left_out[one.provider] = left_out.get(one.provider, 0) + one.events
        found = lines.get(key(one.day, one.model))
        if found is not None and named:
            found.elsewhere[one.provider] = found.elsewhere.get(one.provider, 0) + one.events
    ordered = sorted(lines.values(), key=lambda line: (line.day, line.model))
    return Comparison(lines=ordered, has_costs=bill.has_costs, left_out=left_out)


def as_json(line: Line, tolerance: Decimal, *, by_cost: bool) -> dict[str, Any]:
    """One line for JSON output."""
    billed = line.billed
    agrees = line.agrees(tolerance, by_cost=by_cost)
    return {
        "day": line.day.isoformat(),
        "model": line.model,
        "booked_as": sorted(line.booked_as),
        "agrees": agrees,
        "billed_cost": None if billed is None or billed.cost is None else plain(billed.cost),
        "booked_cost": plain(line.cost),
        "difference": None if line.difference is None else plain(line.difference),
        "billed_tokens": None if billed is None else billed.all_tokens,
        "booked_tokens": line.prompt + line.completion,
        "billed_requests": None if billed is None else billed.requests,
        "booked_events": line.events,
        "by_status": {
            status: {"events": events, "cost": plain(cost)} for status, (events, cost) in line.by_status().items()
        },
        "dead": {"events": sum(one.events for one in line.dead), "cost": plain(_total(line.dead))},
        "why": [] if agrees else line.why(tolerance),
    }


def _plain(model: str) -> str:
    """A model's name in the form in which it is compared."""
    name = _SEPARATORS.sub("-", model.strip().lower().rpartition("/")[2])
    return _DATE.sub(r"-\1\2\3", name)


def _undated(model: str) -> str:
    return _UNDATED.sub("", _plain(model))


def _total(booked: Iterable[Booked]) -> Decimal:
    return _sum(one.cost for one in booked)


def _sum(costs: Iterable[Decimal | None]) -> Decimal:
    total = Decimal(0)
    for cost in costs:
        total = EXACT.add(total, cost or Decimal(0))
    return total
