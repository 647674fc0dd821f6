"""Costs, and models without a price, read from Tinybird as `birdfeed report` and `birdfeed prices missing` do."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from birdfeed_worker.operations.unread import ADVICE
from birdfeed_worker.settings import WorkerSettings
from markupsafe import Markup

from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.prices.missing import lacks, read_missing
from birdfeed_cli.report.charts import stacked_bars
from birdfeed_cli.report.command import NO_TABLES, read_stored
from birdfeed_cli.report.html import colour, cost_layers, usd_of
from birdfeed_cli.report.query import DIMENSIONS, Report

#: Numbers of days that can be shown.
DAYS: Final = (1, 7, 30)
#: The dimensions by which costs are shown; the first, chosen in the URL, also over time.
BY: Final = ("model", "tier", "user")


def costs(settings: WorkerSettings, query: Mapping[str, str], *, signed_in: bool) -> dict[str, Any]:
    """Costs of the last days by model, tier and day; by user only after a sign-in, because it shows names.

    Raises:
        BirdfeedError: Tinybird doesn't answer, or refuses.
        WrongUse: No data source can be read.
    """
    days, values = _days(query)
    if not settings.has_read_token:
        return {**values, "report": None}
    known = [one for one in BY if one in DIMENSIONS and (signed_in or one != "user")]
    first = query.get("by") if query.get("by") in known else known[0]
    dimensions = [str(first), *(one for one in known if one != first)]
    until, notes = datetime.now(UTC), list[str]()
    report, _ = read_stored(settings, until - timedelta(days=days), until, dimensions, ZoneInfo("UTC"), notes.append)
    if report is None:
        raise WrongUse(NO_TABLES)
    return {**values, "report": report, "known": known, "first": first, "notes": notes, **_plot(report, str(first))}


def missing(settings: WorkerSettings, query: Mapping[str, str]) -> dict[str, Any]:
    """Models without a full price in the last days, and usage that was not read; raises BirdfeedError."""
    days, values = _days(query)
    if not settings.has_read_token:
        return {**values, "found": None}
    now = datetime.now(UTC)
    found = read_missing(settings, now - timedelta(days=days), now)
    return {**values, "found": found, "lacks": lacks, "advice": ADVICE}


def _days(query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    days = next((known for known in DAYS if query.get("days") == str(known)), 7)
    return days, {"days": days, "all_days": DAYS}


def _plot(report: Report, by: str) -> dict[str, Any]:
    series = report.over_time
    title = f"Cost by {report.every} and {by}"
    drawn = stacked_bars(title, report.periods, report.every, cost_layers(series), usd_of)
    # The function that drew it has escaped the names.
    plot = Markup(drawn)  # nosec B704
    legend = [
        (colour(series, nth), one.name or "(none)", sum(one.cost_usd, Decimal(0))) for nth, one in enumerate(series)
    ]
    return {"title": title, "plot": plot, "legend": legend}
