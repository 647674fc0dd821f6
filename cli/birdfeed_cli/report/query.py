"""The data of `birdfeed report`, from two SQL queries, whatever the number of dimensions."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from birdfeed_schemas.tables.meters import BY_NAME, COMPLETION_CLASSES, PROMPT_CLASSES
from birdfeed_worker.operations.unread import Shape
from birdfeed_worker.tinybird.lookup import sql_text

#: Columns that can be grouped by; every data source has them.
DIMENSIONS: Final = (
    "model", "model_used", "provider", "tier", "user", "username", "event_type", "cost_status", "error_type",
    "referrer", "service_tier", "price_model",
)  # fmt: skip
#: Groups shown by name for each dimension, the most expensive ones.
GROUPS: Final = 15
#: Groups shown by name over time; a chart with more colours can't be read.
SERIES: Final = 7
OTHERS: Final = "(others)"
#: Up to this span, time is shown by the hour.
_HOURLY: Final = timedelta(days=3)
_PROMPT: Final = " + ".join(BY_NAME[name].column for name in PROMPT_CLASSES)
_COMPLETION: Final = " + ".join(BY_NAME[name].column for name in COMPLETION_CLASSES)
Query = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One group. Costs in USD; latencies in ms of successful requests with a duration, None if there are none."""

    name: str
    requests: int = 0
    errors: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def error_rate(self) -> float:
        """The share of failed requests; 0 if there are no requests."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One group over time: cost in USD and requests for each period."""

    name: str
    cost_usd: list[Decimal]
    requests: list[int]
    errors: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report. `periods` are the starts of hours or days in the zone; `over_time` is by the first dimension.

    `unread` is usage that was not read, not completely read, or not sent, grouped by shape.
    """

    since: datetime
    until: datetime
    zone: str
    total: Line
    by: Mapping[str, list[Line]]
    every: str
    periods: list[datetime]
    over_time: list[Series] = field(default_factory=list)
    unread: Sequence[Shape] = ()


def largest_named(lines: Iterable[Line]) -> Decimal:
    """The highest cost of a group shown by name, for the scale of bars. (The sum of the others would dwarf them.)"""
    return max((line.cost_usd for line in lines if line.name != OTHERS), default=Decimal(0))


def read_report(
    query: Query,
    datasources: Sequence[str],
    since: datetime,
    until: datetime,
    by: Sequence[str],
    zone: ZoneInfo,
    *,
    client_errors: bool = True,
) -> Report:
    """Query the report.

    Args:
        query: Runs a SELECT; its errors pass through.
        datasources: The tables to count, which all have birdfeed's columns.
        since, until: From (inclusive) and until (exclusive); timezone-aware.
        by: Dimensions; the first one is also shown over time.
        zone: The time zone of hours and days.
        client_errors: Whether requests that were refused because of the client count.
    """
    events = _events_sql(datasources, since, until, client_errors=client_errors)
    found = [(row["dimension"], _line(row)) for row in query(_groups_sql(events, by))]
    total = next((line for dimension, line in found if dimension == "total"), Line(name="total"))
    groups = {one: _with_others([line for dimension, line in found if dimension == one], total) for one in by}
    hourly = until - since <= _HOURLY
    periods = list(_periods(since, until, zone, hourly=hourly))
    names = [line.name for line in groups[by[0]] if line.name != OTHERS][:SERIES]
    over_time = _series(query(_over_time_sql(events, by[0], names, zone, hourly=hourly)), names, periods)
    return Report(
        since=since,
        until=until,
        zone=zone.key,
        total=total,
        by=groups,
        every="hour" if hourly else "day",
        periods=periods,
        over_time=over_time,
    )


def _events_sql(datasources: Sequence[str], since: datetime, until: datetime, *, client_errors: bool) -> str:
    """SQL that counts each event once; FINAL is the cheapest way (docs/explanation/reading-costs.md)."""
    columns = f"{', '.join(DIMENSIONS)}, occurred_at, response_status, cache_hit, duration, cost, {_PROMPT} AS prompt, "
    within = f"occurred_at >= {_moment(since)} AND occurred_at < {_moment(until)}"
    if not client_errors:
        within += " AND error_type != 'client_error'"
    parts = [f"SELECT {columns}{_COMPLETION} AS completion FROM {one} FINAL WHERE {within}" for one in datasources]
    return " UNION ALL ".join(parts)


def _groups_sql(events: str, by: Sequence[str]) -> str:
    pairs = ", ".join(["('total', '')", *(f"({sql_text(one)}, toString({one}))" for one in by)])
    return (
        "SELECT pair.1 AS dimension, pair.2 AS name, toString(count()) AS requests, "
        "toString(countIf(response_status = 'error')) AS errors, "
        "toString(countIf(cost_status = 'unpriced')) AS unpriced, "
        "toString(sum(prompt)) AS prompt_tokens, toString(sum(completion)) AS completion_tokens, "
        "toString(sum(cost)) AS cost_usd, "
        "quantilesTDigestIf(0.5, 0.95)(duration, response_status != 'error' AND NOT cache_hit AND duration > 0) AS ms "
        f"FROM (SELECT *, arrayJoin([{pairs}]) AS pair FROM ({events})) "
        f"GROUP BY pair ORDER BY dimension, sum(cost) DESC, count() DESC, name LIMIT {GROUPS} BY dimension"
    )


def _over_time_sql(events: str, by: str, names: Sequence[str], zone: ZoneInfo, *, hourly: bool) -> str:
    known = ", ".join(map(sql_text, names)) or "''"
    period = f"toStart{'OfHour' if hourly else 'OfDay'}(occurred_at, {sql_text(zone.key)})"
    return (
        f"SELECT toString(toUnixTimestamp({period})) AS period, "
        f"if({by} IN ({known}), toString({by}), {sql_text(OTHERS)}) AS name, toString(count()) AS requests, "
        "toString(countIf(response_status = 'error')) AS errors, toString(sum(cost)) AS cost_usd "
        f"FROM ({events}) GROUP BY period, name"
    )


def _moment(when: datetime) -> str:
    text = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"toDateTime64('{text}', 3, 'UTC')"


def _line(row: Mapping[str, Any]) -> Line:
    p50, p95 = (None if value is None else float(value) for value in row["ms"])
    counts = {name: int(row[name]) for name in ("requests", "errors", "unpriced", "prompt_tokens", "completion_tokens")}
    return Line(name=row["name"], cost_usd=Decimal(row["cost_usd"]), p50_ms=p50, p95_ms=p95, **counts)


def _with_others(lines: list[Line], total: Line) -> list[Line]:
    """Add a line with the sum of the groups not shown by name, so that every table adds up to the total."""

    def rest(field_: str) -> Any:
        return getattr(total, field_) - sum((getattr(line, field_) for line in lines), type(getattr(total, field_))(0))

    if rest("requests") <= 0:
        return lines
    counts = {one: rest(one) for one in ("requests", "errors", "unpriced", "prompt_tokens", "completion_tokens")}
    return [*lines, Line(name=OTHERS, cost_usd=rest("cost_usd"), **counts)]


def _periods(since: datetime, until: datetime, zone: ZoneInfo, *, hourly: bool) -> Iterable[datetime]:
    """The start of each hour or day from since to until, by the calendar: days may have 23 or 25 hours."""
    local = since.astimezone(zone)
    if not hourly:
        day: date = local.date()
        while (start := datetime(day.year, day.month, day.day, tzinfo=zone)) < until:
            yield start
            day += timedelta(days=1)
        return
    moment = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    while moment < until:
        yield moment.astimezone(zone)
        moment += timedelta(hours=1)


def _series(rows: Iterable[Mapping[str, Any]], names: Sequence[str], periods: Sequence[datetime]) -> list[Series]:
    starts = [period.timestamp() for period in periods]
    series: dict[str, Series] = {}
    for name in (*names, OTHERS):
        empty = [0] * len(periods)
        series[name] = Series(name=name, cost_usd=[Decimal(0)] * len(periods), requests=empty[:], errors=empty[:])
    for row in rows:
        # By position, not by equality: if clocks change at midnight, the start of a day is ambiguous.
        nth, one = max(0, bisect_right(starts, int(row["period"])) - 1), series[row["name"]]
        one.cost_usd[nth] += Decimal(row["cost_usd"])
        one.requests[nth] += int(row["requests"])
        one.errors[nth] += int(row["errors"])
    return [one for one in series.values() if any(one.requests)]
