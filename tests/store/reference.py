"""The endpoints' answers, computed in Python from the rows: plain loops, no SQL."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from birdfeed_schemas.tables.meters import COMPLETION_CLASSES, PROMPT_CLASSES

from tests.support.rows import filled

Row = Mapping[str, Any]
CACHED = ("prompt_cached", "prompt_cached_audio", "prompt_cached_image")
PROMPT, COMPLETION = PROMPT_CLASSES, COMPLETION_CLASSES
STATUSES = {
    "priced": "priced",
    "reported": "reported",
    "cache_hits": "cache_hit",
    "estimated": "estimated",
    "partial": "partial",
    "unpriced": "unpriced",
    "no_usage": "no_usage",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """The parameters of a query to an endpoint. since, until: in the time zone; until is exclusive."""

    since: datetime
    until: datetime
    zone: str = "UTC"
    every: str
    by: str = "model"
    filters: Mapping[str, str]

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters as they are sent."""
        return {
            "since": self.since.strftime("%Y-%m-%d %H:%M:%S"),
            "until": self.until.strftime("%Y-%m-%d %H:%M:%S"),
            "timezone": self.zone,
            "every": self.every,
            **self.filters,
        }

    def periods(self) -> list[datetime]:
        """The start of every period, empty ones too."""
        first, last = self.bounds
        halves = range(int((last - first) / timedelta(minutes=30)) if self.every != "total" else 1)
        return list(dict.fromkeys(self.period(first + timedelta(minutes=30 * half)) for half in halves))

    def period(self, when: datetime) -> datetime:
        """The start (UTC) of the period to which a time (UTC) belongs."""
        local = when.astimezone(ZoneInfo(self.zone))
        if self.every == "total":
            return self.bounds[0]
        start = local.replace(minute=0, second=0, microsecond=0)
        return (start.replace(hour=0, fold=0) if self.every == "day" else start).astimezone(UTC)

    def text(self, period: datetime) -> str:
        """A period as the endpoints print it: the hour in which clocks go back is there twice, with the same text."""
        local = period.astimezone(ZoneInfo(self.zone))
        return local.strftime("%Y-%m-%d %H:00:00" if self.every == "hour" else "%Y-%m-%d")

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """since and until in UTC."""
        zone = ZoneInfo(self.zone)
        return self.since.replace(tzinfo=zone).astimezone(UTC), self.until.replace(tzinfo=zone).astimezone(UTC)

    def counts(self, row: Row) -> bool:
        """Whether a row matches the query."""
        first, last = self.bounds
        return first <= occurred(row) < last and all(dimension(row, name) == v for name, v in self.filters.items())


def occurred(row: Row) -> datetime:
    """When its event occurred, cut to milliseconds, as in the store."""
    when = datetime.fromisoformat(row["occurred_at"])
    return when.replace(microsecond=when.microsecond // 1000 * 1000)


def dimension(row: Row, name: str) -> str:
    """The value of a dimension."""
    if name == "environment" and "proxy_metadata" in row:
        return str(row["proxy_metadata"]["environment"])
    return str(row[name])


def once(rows: Iterable[Row]) -> list[Row]:
    """Each event in its last version, with every field."""
    last: dict[str, Row] = {}
    for row in map(filled, rows):
        known = last.get(row["event_id"])
        if known is None or row["enriched_at"] >= known["enriched_at"]:
            last[row["event_id"]] = row
    return list(last.values())


def grouped(
    rows: Iterable[Row], question: Question, key: Callable[[Row], Any], nameless: Any = ""
) -> Iterator[tuple[str, Any, list[Row]]]:
    """Period, key and rows of every group in every period, in the endpoints' order.

    Without any row the periods are still there, with an empty name.
    """
    groups: dict[Any, dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if question.counts(row):
            groups[key(row)][question.period(occurred(row))].append(row)
    for name in sorted(groups, key=_bytes) or [nameless] * (question.every != "total"):
        for period in question.periods():
            yield question.text(period), name, groups[name].get(period, [])


def _bytes(name: Any) -> Any:
    return tuple(part.encode() for part in name) if isinstance(name, tuple) else name.encode()


def cost(rows: Iterable[Row], question: Question, top: int = 20) -> list[dict[str, Any]]:
    """birdfeed_cost."""
    counted = [row for row in rows if question.counts(row)]
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in counted:
        totals[dimension(row, question.by)] += Decimal(row["cost_exact"])
    ranked = sorted(totals, key=lambda name: (-totals[name], name.encode()))
    shown = {name: name if place < top else "(other)" for place, name in enumerate(ranked)}
    return [
        {
            "period": period,
            "name": name,
            "requests": len(group),
            "cost_usd": spent(group),
            "unpriced": count(group, "unpriced"),
        }
        for period, name, group in grouped(counted, question, lambda row: shown[dimension(row, question.by)])
    ]


def requests(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_requests, without the percentiles: see latencies."""
    return [
        {
            "period": period,
            "name": name,
            "requests": len(group),
            "errors": failed(group),
            "error_rate": share(failed(group), len(group)),
            "cache_hits": sum(row["cache_hit"] for row in group),
        }
        for period, name, group in grouped(rows, question, lambda row: dimension(row, question.by))
    ]


def latencies(rows: Iterable[Row], question: Question) -> list[list[float]]:
    """The sorted durations behind each line of birdfeed_requests."""
    return [
        sorted(
            row["duration"]
            for row in group
            if row["status"] != "error" and not row["cache_hit"] and row["duration"] > 0
        )
        for _, _, group in grouped(rows, question, lambda row: dimension(row, question.by))
    ]


def tokens(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_tokens."""
    said = []
    for period, name, group in grouped(rows, question, lambda row: dimension(row, question.by)):
        sums = {one: sum(row["tokens"][one] for row in group) for one in (*PROMPT, *COMPLETION)}
        prompt, completion = sum(sums[one] for one in PROMPT), sum(sums[one] for one in COMPLETION)
        beside = {
            "prompt": prompt,
            "completion": completion,
            "cached_share": share(sum(sums[name] for name in CACHED), prompt),
        }
        said.append({"period": period, "name": name, "requests": len(group), **sums, **beside})
    return said


def images(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_images."""
    said = []
    mine = [row for row in rows if row["event_type"] == "image_generation"]
    for period, (model, size), group in grouped(
        mine, question, lambda row: (row["model"], row["image_size"]), ("", "")
    ):
        made = sum(row["num_images"] for row in group if row["status"] != "error")
        said.append(
            {
                "period": period,
                "model": model,
                "image_size": size,
                "requests": len(group),
                "errors": failed(group),
                "images": made,
                "video_seconds_sum": sum(row["video_seconds"] for row in group),
                "audio_seconds_sum": sum(row["audio_seconds"] for row in group),
                "cost_usd": spent(group),
                "cost_per_image_usd": share(float(spent(group)), made),
            }
        )
    return said


def unpriced(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_unpriced."""
    return [
        {
            "period": period,
            "name": name,
            "requests": len(group),
            **{column: count(group, status) for column, status in STATUSES.items()},
            "unpriced_share": share(count(group, "unpriced"), len(group)),
        }
        for period, name, group in grouped(rows, question, lambda row: dimension(row, question.by))
    ]


def top_users(
    rows: Iterable[Row], question: Question, order: str = "cost_usd", limit: int = 20
) -> list[dict[str, Any]]:
    """birdfeed_top_users."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if question.counts(row):
            groups[row["user"]].append(row)
    said = []
    for user, group in groups.items():
        last = max(group, key=occurred)
        said.append(
            {
                "user": user,
                "username": last["username"],
                "tier": last["tier"],
                "requests": len(group),
                "errors": failed(group),
                "tokens": sum(sum(row["tokens"].values()) for row in group),
                "cost_usd": spent(group),
                "last_seen": occurred(last).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            }
        )
    return sorted(said, key=lambda line: (-line[order], line["user"].encode()))[:limit]


def tiers(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_tiers."""
    lines = list(grouped(rows, question, lambda row: row["tier"]))
    periods = len(question.periods())
    everything = [[row for _, _, group in lines[nth::periods] for row in group] for nth in range(periods)]
    return [
        {
            "period": period,
            "tier": tier,
            "requests": len(group),
            "users": len({row["user"] for row in group} - {"unknown"}),
            "cost_usd": spent(group),
            "requests_share": share(len(group), len(everything[nth % periods])) if group else None,
            "cost_share": share(float(spent(group)), float(spent(everything[nth % periods]))) if group else None,
        }
        for nth, (period, tier, group) in enumerate(lines)
    ]


def moderation(rows: Iterable[Row], question: Question) -> list[dict[str, Any]]:
    """birdfeed_moderation."""
    said = []
    mine = [row for row in rows if row["event_type"] == "text_generation"]
    for period, name, group in grouped(mine, question, lambda row: dimension(row, question.by)):
        moderated = sum(row["moderation"] != "" for row in group)
        flagged = sum(row["moderation_flagged"] for row in group)
        said.append(
            {
                "period": period,
                "name": name,
                "requests": len(group),
                "moderated_requests": moderated,
                "flagged": flagged,
                "flagged_share": share(flagged, moderated),
            }
        )
    return said


def spent(group: Iterable[Row]) -> Decimal:
    """USD."""
    return sum((Decimal(row["cost_exact"]) for row in group), Decimal(0))


def failed(group: Iterable[Row]) -> int:
    """How many failed."""
    return sum(row["status"] == "error" for row in group)


def count(group: Iterable[Row], status: str) -> int:
    """How many have this cost_status."""
    return sum(row["cost_status"] == status for row in group)


def share(part: float, whole: float) -> float | None:
    """part / whole; None if whole is 0."""
    return part / whole if whole else None


def day(year: int, month: int, number: int, hour: int = 0) -> datetime:
    """A local date and time."""
    return datetime.combine(date(year, month, number), datetime.min.time()).replace(hour=hour)
