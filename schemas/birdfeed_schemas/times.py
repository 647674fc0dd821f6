"""When an event began and ended, from its handler's data and the time when it was tracked."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from birdfeed_schemas.events import Event

#: Times further after, or further before, occurred_at are clamped: their clock or their unit was wrong.
MAX_CLOCK_AHEAD: Final = timedelta(hours=1)
MAX_DURATION: Final = timedelta(days=7)
_MAX_DURATION_MS: Final = MAX_DURATION / timedelta(milliseconds=1)


class Times(NamedTuple):
    """Start and end (UTC), duration in ms, and whether any of them had to be clamped."""

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
    """Start, end, duration in ms, and whether any was clamped. A plain tuple, because one is made for every event.

    What is missing is computed from the rest: start as end or occurred_at minus the duration, end as start plus the
    duration. occurred_at is from birdfeed's own clock; a start or end more than MAX_CLOCK_AHEAD after it or
    MAX_DURATION before it can't be right, and is replaced by the value computed from occurred_at and the duration.
    """
    if (
        # A fast path: handlers nearly always give all three, and datetime arithmetic is slow.
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
