"""What Tinybird has for the days of a bill, and which events died on them: by day, model, provider and status."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson
from birdfeed_schemas.events import read_time
from birdfeed_schemas.tables.meters import BY_NAME, COMPLETION_CLASSES, PROMPT_CLASSES

from birdfeed_worker.dead_letters.query import DeadLetterInfo
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.record import RecordError, price_record

#: Days that one query covers.
DAYS_AT_ONCE: Final = 7
#: Groups in one answer at most: models times providers times statuses of a week are a few thousand.
MAX_GROUPS: Final = 100_000
#: cost_status of requests that never reached a provider.
CACHE_HIT: Final = "cache_hit"
DEAD: Final = "dead"
_PROMPT: Final = " + ".join(BY_NAME[name].column for name in PROMPT_CLASSES)
_COMPLETION: Final = " + ".join(BY_NAME[name].column for name in COMPLETION_CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """Rows (or dead events) of a model on a day that have the same provider and status.

    Attributes:
        day: The day of occurred_at, UTC.
        status: cost_status, or "dead" for dead events, which are in no table.
        cost: USD; for dead events, what they would cost.
    """

    day: date
    model: str
    provider: str
    status: str
    events: int
    cost: Decimal
    prompt: int = 0
    completion: int = 0


def windows(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The days from `first` to `last` (inclusive) in parts: (first day, day after the last one)."""
    while first <= last:
        end = min(first + timedelta(days=DAYS_AT_ONCE), last + timedelta(days=1))
        yield first, end
        first = end


def question(datasource: str, first: date, end: date) -> str:
    """SQL for a data source's rows from `first` (inclusive) to `end` (exclusive); each event once."""
    return (
        "SELECT toString(toDate(occurred_at, 'UTC')) AS day, model_used, provider, cost_status, "
        "toString(count()) AS events, toString(sum(cost)) AS usd, "
        f"toString(sum({_PROMPT})) AS prompt, toString(sum({_COMPLETION})) AS completion FROM {datasource} FINAL "
        f"WHERE occurred_at >= '{first} 00:00:00.000' AND occurred_at < '{end} 00:00:00.000' "
        f"GROUP BY day, model_used, provider, cost_status ORDER BY day LIMIT {MAX_GROUPS}"
    )


def booked_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Booked]:
    """Read the answers to these queries."""
    for row in rows:
        yield Booked(
            day=date.fromisoformat(row["day"]),
            model=row["model_used"],
            provider=row["provider"],
            status=row["cost_status"],
            events=int(row["events"]),
            cost=Decimal(row["usd"]),
            prompt=int(row["prompt"]),
            completion=int(row["completion"]),
        )


def dead_of(letters: Iterable[DeadLetterInfo], books: Books, first: date, last: date) -> Iterator[Booked]:
    """Dead events of these days, priced if possible; unreadable ones are skipped."""
    for letter in letters:
        for line in letter.batch.lines if letter.batch is not None else ():
            found = _dead(letter.event_type, line, books)
            if found is not None and first <= found.day <= last:
                yield found


def _dead(event_type: str, line: bytes, books: Books) -> Booked | None:
    try:
        event = orjson.loads(line)
        data, when = event["data"], read_time(event["occurred_at"])
        named = data.get("model_used") or data.get("modelUsed") or data.get("model")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if when is None or not isinstance(named, str):
        return None
    record = {"event_type": event_type, "event_data": data, "occurred_at": event["occurred_at"]}
    provider = data.get("provider")
    unpriced = Booked(
        day=when.astimezone(UTC).date(),
        model=named,
        provider=provider if isinstance(provider, str) else "",
        status=DEAD,
        events=1,
        cost=Decimal(0),
    )
    try:
        _, usage, price = price_record(record, books)
    except RecordError:
        return unpriced
    return replace(
        unpriced,
        provider=price.provider or "",
        cost=price.cost,
        prompt=usage.tokens.prompt,
        completion=usage.tokens.completion,
    )
