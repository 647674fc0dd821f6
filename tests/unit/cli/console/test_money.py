"""Pages of costs and missing prices: the store's numbers, or what to set if it can't be queried."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.support.servers.console import TOKEN, words

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


@pytest.mark.parametrize("path", ["/costs", "/prices"])
def test_without_a_read_token(console: Make, path: str) -> None:
    """One sentence says what to set; nothing fails."""
    page = console().get(path)

    assert page.status_code == 200
    assert "set TINYBIRD_READ_TOKEN" in words(page.text)


@pytest.mark.parametrize("path", ["/costs", "/prices"])
def test_without_a_host(console: Make, path: str) -> None:
    """The message names what is missing, and no secret."""
    page = console(tinybird_read_token="a-read-token").get(path)

    assert page.status_code == 502
    assert "TINYBIRD_HOST is not set" in page.text
    assert "a-read-token" not in page.text


def test_costs_by_model_tier_and_day(console: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report's own numbers; users are named only after a sign-in, whatever the URL asks for."""
    from datetime import UTC, datetime
    from decimal import Decimal

    from birdfeed_cli.console import money
    from birdfeed_cli.report.query import Line, Report, Series

    asked: list[list[str]] = []

    def read(settings: object, since: datetime, until: datetime, by: list[str], *rest: object) -> tuple[Report, int]:
        asked.append(by)
        day = datetime(2026, 11, 27, tzinfo=UTC)
        line = Line(name="gpt-x", requests=7, cost_usd=Decimal("1.25"))
        series = Series(name="gpt-x", cost_usd=[Decimal("1.25")], requests=[7], errors=[0])
        lines = {one: [line] for one in by}
        report = Report(
            since=since, until=until, zone="UTC", total=line, by=lines, every="day", periods=[day], over_time=[series]
        )
        return report, 2

    monkeypatch.setattr(money, "read_stored", read)
    store = {"tinybird_read_token": "a-read-token", "tinybird_host": "https://api.example"}

    anybody = words(console(**store).get("/costs?by=user").text)
    operator = words(console(TOKEN, **store).get("/costs?by=user&days=30").text)

    assert asked == [["model", "tier"], ["user", "model", "tier"]]
    assert "Cost by day and model" in anybody
    assert "gpt-x $1.25" in anybody
    assert "Cost by day and user" in operator
