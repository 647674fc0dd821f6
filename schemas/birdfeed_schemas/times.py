"""When an event began and ended, from what its handler said and when it was tracked."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from birdfeed_schemas.events import Event

#: A start_time further from occurred_at than this is clamped: clocks that are wrong, epochs in the wrong unit.
MAX_CLOCK_AHEAD: Final = timedelta(hours=1)
MAX_DURATION: Final = timedelta(days=7)
_MAX_DURATION_MS: Final = MAX_DURATION / timedelta(milliseconds=1)


class Times(NamedTuple):
    """Start and end (UTC), duration in ms, and whether something of it had to be clamped."""

    start: datetime
    end: datetime
    duration: float
    clamped: bool


def times_of(event: Event, occurred_at: datetime) -> Times:
    """The times of an event that was tracked at `occurred_at`."""
    return Times(*times(occurred_at, event.start_time, event.end_time, event.duration))


def times(
    occurred_at: datetime, start: datetime | None, end: datetime | None, duration: float | None
) -> tuple[datetime, datetime, float, bool]:
    """Start, end, duration in ms, and whether something had to be clamped. A plain tuple: it is made for every event.

    What is missing follows from the rest: start from end or occurred_at minus the duration, end from start plus the
    duration. occurred_at is our own clock; a start or end more than MAX_CLOCK_AHEAD after it or MAX_DURATION before
    it can't be true and is replaced by what occurred_at and the duration say.
    """
    if (
        # Handlers nearly always give all three, and sums of times are dear: this is what the rest comes to then.
        start is not None
        and end is not None
        and duration is not None
        and start <= end <= occurred_at
        and occurred_at - start <= MAX_DURATION
        and duration <= _MAX_DURATION_MS
    ):
        return start, end, duration, False
    clamped = False
    latest, earliest = occurred_at + MAX_CLOCK_AHEAD, occurred_at - MAX_DURATION
    if end is not None and not earliest <= end <= latest:
        end, clamped = None, True
    if start is not None and not earliest <= start <= latest:
        start, clamped = None, True
    if duration is not None and duration > _MAX_DURATION_MS:
        duration, clamped = None, True
    if start is not None and end is not None and end < start:
        end, clamped = None, True
    if duration is None:
        duration = max(0.0, ((end or occurred_at) - start) / timedelta(milliseconds=1)) if start is not None else 0.0
    length = timedelta(milliseconds=duration)
    if start is None:
        start = (end or occurred_at) - length
    if end is None:
        end = start + length
    return start, end, duration, clamped
